"""What every part of the client stands on: the connection, the prefixes, and how failures are reported."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from .arguments import check_type
from .error import (
    RedisConnectionError,
    RedisDatabaseError,
    RedisReplyError,
    RedisRuntimeError,
    RedisTimeoutError,
)
from .options import ConfigOptions
from .resp import Address, Argument, Reply, ReplyError, Status
from .topology import Cluster, Command, Limits, SilentError, SingleServer, Topology, UnreachableError

log = logging.getLogger("taskensemble.ai")

_P = ParamSpec("_P")
_R = TypeVar("_R")

LOAD_TIMEOUT = 600.0
"""Seconds that storing a model or script may take beyond SR_CMD_TIMEOUT: the backend loads on first use."""


def reported(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn what the connection raises into SmartRedis' errors, which name the method."""

    @functools.wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(*args, **kwargs)
        except ReplyError as error:
            raise RedisRuntimeError(str(error), _named(args[0], method)) from None
        except SilentError as error:
            raise RedisTimeoutError(str(error), _named(args[0], method)) from None
        except UnreachableError as error:
            raise RedisDatabaseError(str(error), _named(args[0], method)) from None
        except RedisReplyError as error:
            if "execution failed" in str(error):
                raise
            raise type(error)(str(error), _named(args[0], method)) from None

    return call


def _named(owner: object, method: Callable[..., object]) -> str:
    return f"{type(owner).__name__}.{method.__name__}"


class Session:
    """The connection of one client, the names it reads from and the name it writes under."""

    def __init__(self, options: ConfigOptions, *, cluster: bool, address: str | None) -> None:
        addresses_text = address or options.text("SSDB")
        if not addresses_text:
            raise RedisConnectionError(
                "The environment variable SSDB must be set to use the client: SSDB=host:port or SSDB=unix://path"
            )
        limits = Limits(
            connect=options.number("SR_CONN_TIMEOUT", 100),
            connect_interval=options.number("SR_CONN_INTERVAL", 1000) / 1000,
            command=options.number("SR_CMD_TIMEOUT", 100),
            command_interval=options.number("SR_CMD_INTERVAL", 1000) / 1000,
            attempt=max(5.0, options.number("SR_SOCKET_TIMEOUT", 250) / 1000),
        )
        self._model_timeout = options.number("SR_MODEL_TIMEOUT", 60_000_000)
        try:
            addresses = [Address.parse(text) for text in addresses_text.split(",")]
            if cluster and addresses[0].path:
                raise RedisConnectionError("Unix Domain Socket is not supported with clustered Redis")
            self._topology: Topology = Cluster(addresses, limits) if cluster else _first(addresses, limits)
        except (UnreachableError, SilentError, ReplyError, ValueError) as error:
            raise RedisConnectionError(f"{error}\nCould not connect to a database at {addresses_text}") from None
        sources = options.text("SSKEYIN")
        self._sources = [source.strip() for source in sources.split(",") if source.strip()]
        self._source = self._sources[0] if self._sources else ""
        self._own_prefix = options.text("SSKEYOUT").strip()
        self._prefixed = {"tensor": True, "dataset": True, "list": True, "model": False}

    def close(self) -> None:
        """Close the connections; the next call would open them again."""
        self._topology.close()

    @reported
    def set_data_source(self, source_id: str) -> None:
        """Read from what another member wrote, from now on.

        Arguments:
            source_id: one of the names in SSKEYIN.

        Raises:
            RedisRuntimeError: it is none of them.
        """
        check_type(source_id, "source_id", str)
        if source_id not in self._sources:
            raise RedisRuntimeError(
                f"Client error: data source {source_id} could not be found during client initialization: "
                f"SSKEYIN names {', '.join(self._sources) or 'none'}."
            )
        self._source = source_id

    def use_tensor_ensemble_prefix(self, use_prefix: bool) -> None:
        """Whether names of tensors get the prefixes of SSKEYIN and SSKEYOUT; at first they do."""
        self._use_prefix("tensor", use_prefix)

    def use_dataset_ensemble_prefix(self, use_prefix: bool) -> None:
        """Whether names of datasets get the prefixes of SSKEYIN and SSKEYOUT; at first they do."""
        self._use_prefix("dataset", use_prefix)

    def use_list_ensemble_prefix(self, use_prefix: bool) -> None:
        """Whether names of aggregation lists get the prefixes of SSKEYIN and SSKEYOUT; at first they do."""
        self._use_prefix("list", use_prefix)

    def use_model_ensemble_prefix(self, use_prefix: bool) -> None:
        """Whether names of models and scripts get the prefixes of SSKEYIN and SSKEYOUT; at first they do not."""
        self._use_prefix("model", use_prefix)

    def _use_prefix(self, kind: str, use_prefix: bool) -> None:
        check_type(use_prefix, "use_prefix", bool)
        self._prefixed[kind] = use_prefix

    def _read_key(self, kind: str, name: str) -> bytes:
        return self._key(kind, self._source, name)

    def _write_key(self, kind: str, name: str) -> bytes:
        return self._key(kind, self._own_prefix, name)

    def _key(self, kind: str, prefix: str, name: str) -> bytes:
        braced = f"{{{name}}}" if kind == "dataset" else name
        return f"{prefix}.{braced}".encode() if prefix and self._prefixed[kind] else braced.encode()

    def _call(self, key: bytes, *arguments: Argument, timeout: float = 0.0, repeatable: bool = True) -> Reply:
        return self._topology.one(Command(key, arguments, timeout, repeatable))

    def _calls(self, commands: Sequence[Command]) -> list[Reply]:
        """Send several commands in one go and return their replies; the first error among them is raised."""
        replies = self._topology.many(commands) if commands else []
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        return replies

    def _wait_for(self, holds: Callable[[], bool], poll_frequency_ms: int, num_tries: int) -> bool:
        check_type(poll_frequency_ms, "poll_frequency_ms", int)
        check_type(num_tries, "num_tries", int)
        for attempt in range(num_tries):
            if holds():
                return True
            if attempt < num_tries - 1:
                time.sleep(poll_frequency_ms / 1000)
        return False


def _first(addresses: Sequence[Address], limits: Limits) -> SingleServer:
    failure: Exception = ValueError("SSDB is empty")
    for address in addresses:
        try:
            return SingleServer(address, limits)
        except UnreachableError as error:
            failure = error
    raise failure


def is_clustered(options: ConfigOptions) -> bool:
    """What SR_DB_TYPE says; unset or empty means a cluster, as in SmartRedis."""
    return options.text("SR_DB_TYPE").lower() in ("", "clustered")


def ran(reply: Reply) -> None:
    """Raise if an execution's reply says that it waited too long.

    Raises:
        RedisTimeoutError: the request was still in the queue when its time was over.
    """
    if isinstance(reply, Status) and reply == "TIMEDOUT":
        raise RedisTimeoutError("The request waited longer than SR_MODEL_TIMEOUT in the database's queue (TIMEDOUT)")
