"""The client's calls on servers: what they say about themselves, their configuration, saving and flushing."""

from __future__ import annotations

from .arguments import check_names, check_type
from .error import RedisRuntimeError
from .resp import Reply
from .scripts import ScriptCalls
from .session import reported
from .topology import Cluster, UnreachableError

Facts = dict[str, str]


def parse_info(text: str) -> dict[str, Facts]:
    """The sections of a reply to INFO, and their fields."""
    sections: dict[str, Facts] = {}
    section: Facts = {}
    for line in text.splitlines():
        if line.startswith("#"):
            section = sections.setdefault(line[1:].strip(), {})
        elif ":" in line:
            name, _, value = line.partition(":")
            section[name] = value
    return sections


def pairs(reply: Reply) -> Facts:
    """A flat array of names and values, as texts."""
    return {_text(name): _text(value) for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _text(value: Reply) -> str:
    return str(value) if isinstance(value, int | str) else bytes(value).decode(errors="replace")


class AdministrationCalls(ScriptCalls):
    """Calls that name servers by address; each must be one that the client is connected to."""

    def _at(self, address: str, *arguments: bytes | str | int) -> Reply:
        check_type(address, "address", str)
        try:
            return self._topology.at(address, arguments)
        except (UnreachableError, ValueError) as error:
            raise RedisRuntimeError(str(error)) from None

    @reported
    def get_db_node_info(self, addresses: list[str]) -> list[dict[str, Facts]]:
        """What each server says about itself (INFO EVERYTHING): sections of fields.

        Raises:
            RedisRuntimeError: an address is none of this database's.
        """
        check_names(addresses, "addresses")
        return [parse_info(_text(self._at(address, b"INFO", b"EVERYTHING"))) for address in addresses]

    @reported
    def get_db_cluster_info(self, addresses: list[str]) -> list[Facts]:
        """What each server says about the cluster (CLUSTER INFO).

        Raises:
            RedisRuntimeError: the database is no cluster, or an address is none of its servers'.
        """
        check_names(addresses, "addresses")
        if not self._topology.clustered:
            raise RedisRuntimeError("Cannot run on non-cluster environment")
        replies = [_text(self._at(address, b"CLUSTER", b"INFO")) for address in addresses]
        return [dict(line.split(":", 1) for line in reply.splitlines() if ":" in line) for reply in replies]

    @reported
    def get_ai_info(self, address: list[str], key: str, reset_stat: bool = False) -> list[Facts]:
        """A model's or script's statistics on each server: calls, samples, errors, duration in microseconds, …

        Arguments:
            key: the model's name; no prefix is added.
            reset_stat: set the statistics back to zero after reading them.

        Raises:
            RedisRuntimeError: there is no such model, or an address is none of this database's.
        """
        check_names(address, "address")
        check_type(key, "key", str)
        check_type(reset_stat, "reset_stat", bool)
        facts = []
        for server in address:
            placed = self._key_at(server, key.encode())
            facts.append(pairs(self._at(server, b"AI.INFO", placed)) | {"key": key})
            if reset_stat:
                self._at(server, b"AI.INFO", placed, b"RESETSTAT")
        return facts

    def _key_at(self, address: str, key: bytes) -> bytes:
        if not isinstance(self._topology, Cluster):
            return key
        try:
            return b"{" + self._topology.tag_at(address) + b"}." + key
        except (UnreachableError, ValueError) as error:
            raise RedisRuntimeError(str(error)) from None

    @reported
    def config_get(self, expression: str, address: str) -> Facts:
        """A server's configuration parameters whose names match a glob pattern.

        Raises:
            RedisRuntimeError: the address is none of this database's.
        """
        check_type(expression, "expression", str)
        return pairs(self._at(address, b"CONFIG", b"GET", expression))

    @reported
    def config_set(self, config_param: str, value: str, address: str) -> None:
        """Set a server's configuration parameter.

        Raises:
            RedisRuntimeError: no such parameter, a bad value, or the address is none of this database's.
        """
        check_type(config_param, "config_param", str)
        check_type(value, "value", str)
        self._at(address, b"CONFIG", b"SET", config_param, value)

    @reported
    def save(self, addresses: list[str]) -> None:
        """Make each server write a snapshot of its data, and wait for it.

        Raises:
            RedisRuntimeError: it failed, or an address is none of this database's.
        """
        check_names(addresses, "addresses")
        for address in addresses:
            self._at(address, b"SAVE")

    @reported
    def flush_db(self, addresses: list[str]) -> None:
        """Delete all keys of each server.

        Raises:
            RedisRuntimeError: an address is none of this database's.
        """
        check_names(addresses, "addresses")
        for address in addresses:
            self._at(address, b"FLUSHDB")

    @reported
    def set_model_chunk_size(self, chunk_size: int) -> None:
        """Set the size, in bytes, above which the database hands out models in pieces."""
        check_type(chunk_size, "chunk_size", int)
        for address in self._topology.addresses():
            self._at(str(address), b"AI.CONFIG", b"MODEL_CHUNK_SIZE", chunk_size)
