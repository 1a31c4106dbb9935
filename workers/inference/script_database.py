"""The database behind a worker, as the scripts that it runs see it: `redis.execute` and `redisAI.model_execute`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from .backend import Backend, BackendError, Model
from .connection import Connection, Credentials, ServerError
from .frames import TYPE_NAMES, Buffer, LoadModel, Tensor

_OF_A_CONNECTION = frozenset(
    [
        "ASKING",
        "AUTH",
        "CLIENT",
        "DISCARD",
        "EXEC",
        "HELLO",
        "MONITOR",
        "MULTI",
        "PSUBSCRIBE",
        "PSYNC",
        "PUNSUBSCRIBE",
        "QUIT",
        "READONLY",
        "READWRITE",
        "REPLCONF",
        "RESET",
        "SELECT",
        "SSUBSCRIBE",
        "SUBSCRIBE",
        "SUNSUBSCRIBE",
        "SYNC",
        "UNSUBSCRIBE",
        "UNWATCH",
        "WATCH",
    ]
)
"""Commands that change what a connection is: the scripts of a worker share one."""
_ONLY_ALONE = "inside a transaction"
"""The server's error for a command that it refuses in MULTI; none of these waits for anything."""


class ScriptDatabase:
    """The database behind a session, through ordinary connections made when they are first needed.

    On a restricted server the worker is its administrator, but a script that a member stored is not: its commands run as the
    default user's.

    Arguments:
        address: of the server.
        credentials: the worker's own.
        name: the worker's backend, TORCH.
        backend: turns values of the scripts into tensors and back.
        load: makes a model of a stored blob.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials | None,
        name: str,
        backend: Backend,
        load: Callable[[LoadModel], Model],
    ) -> None:
        self._address = address
        self._name = name
        self._backend = backend
        self._load = load
        self._administrator = credentials
        self._member = None if credentials and credentials[0] else credentials
        self._connections: dict[Credentials | None, tuple[Connection, int]] = {}
        self._loaded: dict[str, tuple[int, Model]] = {}
        self.number = 0
        """Number of the caller's database."""

    def execute(self, command: str, args: Sequence[str]) -> Any:
        """Run a command as if in a transaction, where nothing waits: BLPOP finds nothing, a run of a model is refused.

        One that waited would keep this worker from its other callers, and for a run that needs this worker, for ever. Byte
        strings of the reply become text.
        """
        if command.upper() in _OF_A_CONNECTION:
            raise BackendError(
                f"ERR {command.upper()} is not for scripts: they share a connection, which it would change"
            )
        return _decoded(self._ask(self._member, command, *args, waits=False))

    def model(self, name: str) -> Callable[[list[Any], int], Sequence[Any]]:
        """How to run the model under a key: here where it is of this backend, else where the database runs it."""
        reply = self._ask(self._administrator, "AI._WORKER", "MODEL", name)
        if reply is None:
            raise BackendError("ERR model key is empty")
        version, backend, _device, inputs, outputs, blob = reply
        if bytes(backend).decode() != self._name:
            return lambda values, count: self._run_elsewhere(name, values, count)
        known = self._loaded.get(name)
        if known is None or known[0] != version:
            names = [[bytes(part).decode() for part in parts] for parts in (inputs, outputs)]
            known = (version, self._load(LoadModel(version, blob, names[0], names[1], 0, 0)))
            self._loaded[name] = known
        return known[1].run

    def _run_elsewhere(self, name: str, inputs: list[Any], outputs: int) -> Sequence[Any]:
        """Run a model of another backend as a graph, whose tensors never reach the keyspace."""
        sources, targets = [f"in{n}" for n in range(len(inputs))], [f"out{n}" for n in range(outputs)]
        words: list[str | int | Buffer] = ["AI.DAGEXECUTE_RO", "ROUTING", name]
        for source, value in zip(sources, inputs, strict=True):
            tensor = self._backend.wire(value)
            words += ["|>", "AI.TENSORSET", source, TYPE_NAMES[tensor.code], *tensor.dims, "BLOB", tensor.blob]
        words += ["|>", "AI.MODELEXECUTE", name, "INPUTS", len(sources), *sources, "OUTPUTS", len(targets), *targets]
        for target in targets:
            words += ["|>", "AI.TENSORGET", target]
        replies = self._ask(self._administrator, *words)[-outputs:]
        return [
            self._backend.native(Tensor(TYPE_NAMES.index(bytes(kind).decode()), tuple(dims), blob))
            for _, kind, _, dims, _, blob in replies
        ]

    def close(self) -> None:
        """Close the connections."""
        for connection, _ in self._connections.values():
            connection.close()

    def _ask(self, credentials: Credentials | None, *words: str | int | Buffer, waits: bool = True) -> Any:
        connection, selected = self._connections.pop(credentials, (None, 0))
        try:
            if connection is None:
                connection = Connection(self._address, credentials)
            if self.number != selected:
                connection.command("SELECT", self.number)
                selected = self.number
            reply = connection.command(*words) if waits else _in_transaction(connection, words)
        except ServerError as error:
            if connection is not None:
                self._connections[credentials] = (connection, selected)
            raise BackendError(str(error)) from error
        self._connections[credentials] = (connection, selected)
        return reply


def _in_transaction(connection: Connection, words: Sequence[str | int | Buffer]) -> Any:
    """The reply to a command in a transaction of its own."""
    for command in (("MULTI",), words, ("EXEC",)):
        connection.send(*command)
    connection.reply()
    try:
        connection.reply()
    except ServerError as error:
        with contextlib.suppress(ServerError):
            connection.reply()
        if _ONLY_ALONE in str(error):
            return connection.command(*words)
        raise
    return connection.reply()[0]


def _decoded(reply: Any) -> Any:
    if isinstance(reply, bytearray):
        return reply.decode("utf-8", "surrogateescape")
    if isinstance(reply, list):
        return [_decoded(part) for part in reply]
    return reply
