"""The worker's line to the record store: pipelined, without waiting, on the event loop.

Operations are collected and written together; their answers come back to callbacks. Every operation of store.lua may be repeated,
so after a broken connection all unanswered ones are sent again. A second connection listens to the control channel.
"""

from __future__ import annotations

import json
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis

from taskensemble.engine import urls
from taskensemble.engine.store import CONTROL_CHANNEL, SCRIPT, run_key

logger = logging.getLogger("taskensemble.worker")

Callback = Callable[[Any], None]
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_PASSING = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "NOSCRIPT", "READONLY")
_FULL = ("MISCONF", "OOM", "NOREPLICAS")
"""What a server says that can write nothing: its disk or memory is full, or its replicas are gone."""


class ReplyError(Exception):
    """An error reply of the server."""

    @property
    def writes_nothing(self) -> bool:
        """Whether the server refuses all that writes, whoever asks: its disk or its memory is full."""
        return str(self).startswith(_FULL)

    @property
    def passes(self) -> bool:
        """Whether the same command will do later."""
        return self.writes_nothing or str(self).startswith(_PASSING)


class _Incomplete(Exception):
    pass


def pack(*parts: Any) -> bytes:
    """A command in the server's protocol."""
    out = [f"*{len(parts)}\r\n"]
    for part in parts:
        text = part.decode("utf-8", "surrogateescape") if isinstance(part, bytes) else str(part)
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))
        out.append(f"${size}\r\n{text}\r\n")
    return "".join(out).encode("utf-8", "surrogateescape")


def _parse(data: bytearray, at: int) -> tuple[Any, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _Incomplete
    kind, line = data[at], bytes(data[at + 1 : end])
    at = end + 2
    if kind == 0x24:  # $
        length = int(line)
        if length < 0:
            return None, at
        if len(data) < at + length + 2:
            raise _Incomplete
        return bytes(data[at : at + length]), at + length + 2
    if kind == 0x3A:  # :
        return int(line), at
    if kind == 0x2A:  # *
        count = int(line)
        if count < 0:
            return None, at
        items = []
        for _ in range(count):
            item, at = _parse(data, at)
            items.append(item)
        return items, at
    if kind == 0x2D:  # -
        return ReplyError(line.decode("utf-8", "replace")), at
    return line, at


class _Operation(NamedTuple):
    """A command that waits to be sent, or for its answer."""

    parts: tuple[Any, ...]
    callback: Callback | None
    insists: bool


class Wire:
    """One connection: opened with redis-py (authentication, TLS, sockets), then read and written without blocking."""

    def __init__(self, url: str) -> None:
        self._pool = redis.ConnectionPool.from_url(
            urls.redis_url(url), protocol=2, socket_connect_timeout=3.0, socket_timeout=5.0, health_check_interval=0
        )
        self._is_tls = urls.redis_url(url).startswith("rediss://")
        self._connection: Any = None
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self.retry_at = 0.0
        self._pause = 0.1

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def fileno(self) -> int:
        """The socket's descriptor; -1 while there is no connection."""
        return self._connection._sock.fileno() if self._connection is not None else -1

    def connect(self, *commands: Sequence[Any]) -> list[Any] | None:
        """Opens the connection and runs commands on it; their answers, or None when it cannot be opened now."""
        if time.monotonic() < self.retry_at:
            return None
        connection: Any = self._pool.make_connection()
        try:
            connection.connect()
            answers = []
            for command in commands:
                connection.send_command(*command)
                answers.append(connection.read_response())
            connection._sock.setblocking(False)
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            self.retry_at = time.monotonic() + self._pause
            if self._pause == 0.1:
                logger.warning("The record store cannot be reached, trying again: %s", error)
            self._pause = min(2.0, self._pause * 2)
            return None
        self._pause = 0.1
        self._connection = connection
        self._incoming.clear()
        self._outgoing.clear()
        return answers

    def drop(self) -> None:
        """Closes the connection; the next `connect` is allowed soon."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
            self.retry_at = time.monotonic() + self._pause

    def write(self, data: bytes) -> None:
        """Sends, and keeps what does not go out now.

        Raises:
            OSError: the connection is broken.
        """
        self._outgoing += data
        while self._outgoing:
            try:
                sent = self._connection._sock.send(self._outgoing)
            except _NOT_NOW:
                return
            del self._outgoing[:sent]

    def read(self) -> list[Any]:
        """Complete answers that have arrived.

        Raises:
            OSError: the connection is broken.
        """
        while True:
            try:
                part = self._connection._sock.recv(262144)
            except _NOT_NOW:
                break
            if not part:
                raise ConnectionResetError("the server closed the connection")
            self._incoming += part
            # TLS hands out one record at a time, and what it has taken in makes the socket readable no more.
            if len(part) < 262144 and not self._is_tls:
                break
        answers, at = [], 0
        try:
            while at < len(self._incoming):
                answer, at = _parse(self._incoming, at)
                answers.append(answer)
        except _Incomplete:
            pass
        del self._incoming[:at]
        return answers


class Link:
    """Operations on the record store, and orders from it.

    Arguments:
        url: of the record store.
        on_order: called with each order of the control channel.
        on_open: called when the control channel has been opened (again): orders may have been missed.
        on_restart: called when another server process answers than before; what it calls for is sent before what waits.
    """

    def __init__(
        self,
        url: str,
        on_order: Callable[[dict[str, Any]], None],
        on_open: Callable[[], None],
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._wire = Wire(url)
        self._orders = Wire(url)
        self._on_order = on_order
        self._on_open = on_open
        self._on_restart = on_restart
        self._server = b""
        self.heard = 0.0
        """When the store has last answered (monotonic)."""
        self._sha = b""
        self._waiting: deque[_Operation] = deque()
        self._sent: deque[_Operation] = deque()
        self._not_before = 0.0
        self._refused = False

    @property
    def unanswered(self) -> int:
        """Operations whose answer has not come."""
        return len(self._waiting) + len(self._sent)

    @property
    def connected(self) -> bool:
        """Whether the store could be reached at the last look."""
        return self._wire.connected

    def call(
        self,
        run_id: str,
        operation: str,
        arguments: Sequence[Any],
        callback: Callback | None = None,
        *,
        insists: bool = True,
    ) -> None:
        """An operation of store.lua; the callback gets its answer, or a ReplyError.

        Arguments:
            insists: a server whose disk or memory is full is asked again until it has room; else the callback is told.
        """
        parts = ("EVALSHA", None, 1, run_key(run_id), operation, *arguments)
        self._waiting.append(_Operation(parts, callback, insists))

    def command(self, *parts: Any, callback: Callback | None = None, insists: bool = True) -> None:
        """Any command that may be repeated; `insists` as for `call`."""
        self._waiting.append(_Operation(parts, callback, insists))

    def descriptors(self) -> list[int]:
        """What to wait on for `receive`."""
        return [fd for fd in (self._wire.fileno(), self._orders.fileno()) if fd >= 0]

    def flush(self) -> bool:
        """Opens connections where needed and sends what waits; True when a connection was opened."""
        opened = False
        if not self._orders.connected and self._orders.connect(("SUBSCRIBE", CONTROL_CHANNEL)) is not None:
            opened = True
            self._on_open()
        if not self._wire.connected and (self._waiting or opened):
            answers = self._wire.connect(("SCRIPT", "LOAD", SCRIPT), ("INFO", "server"))
            if answers is not None:
                self._sha = answers[0]
                self._look_at_server(bytes(answers[1]).partition(b"run_id:")[2].split()[0])
                opened = True
        if not self._wire.connected or not self._waiting or time.monotonic() < self._not_before:
            return opened
        batch = []
        while self._waiting:
            item = self._waiting.popleft()
            self._sent.append(item)
            parts = item.parts
            batch.append(pack(parts[0], self._sha, *parts[2:]) if parts[1:2] == (None,) else pack(*parts))
        try:
            self._wire.write(b"".join(batch))
        except OSError as error:
            self._break(error)
        return opened

    def receive(self, descriptor: int | None = None) -> None:
        """Takes in what has arrived and calls back.

        Arguments:
            descriptor: of the connection that is readable; None: perhaps both.
        """
        if self._orders.connected and descriptor in (None, self._orders.fileno()):
            try:
                for answer in self._orders.read():
                    if isinstance(answer, list) and answer[0] == b"message":
                        self._take_order(answer[2])
            except OSError:
                self._orders.drop()
        if not self._wire.connected or descriptor not in (None, self._wire.fileno()):
            return
        try:
            answers = self._wire.read()
            self._wire.write(b"")
        except OSError as error:
            self._break(error)
            return
        demoted = False
        self.heard = time.monotonic() if answers else self.heard
        for answer in answers:
            item = self._sent.popleft()
            if not isinstance(answer, ReplyError):
                self._refused = self._refused and item.parts[0] != "EVALSHA"
            else:
                demoted |= str(answer).startswith("READONLY")
                if answer.writes_nothing and not self._refused:
                    logger.error("The record store writes nothing, trying again until it does: %s", answer)
                self._refused = answer.writes_nothing
                if answer.passes and (item.insists or not answer.writes_nothing):
                    if str(answer).startswith("NOSCRIPT"):
                        self.command("SCRIPT", "LOAD", SCRIPT)
                    self._waiting.append(item)
                    self._not_before = time.monotonic() + 0.2
                    continue
                if not answer.passes:
                    logger.error("The record store refused %s: %s", " ".join(map(str, item.parts[:5])), answer)
            if item.callback is not None:
                item.callback(answer)
        if demoted:
            self._break(ConnectionError("it is a replica now"))

    def _look_at_server(self, identifier: bytes) -> None:
        """Tells of a server that was started again, before anything else is sent to it."""
        if self._server not in (b"", identifier):
            waiting, self._waiting = self._waiting, deque()
            self._on_restart()
            self._waiting.extend(waiting)
        self._server = identifier

    def _take_order(self, text: bytes) -> None:
        """Every worker reads the channel: what one of them stumbled over would end them all."""
        try:
            self._on_order(json.loads(text))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            logger.exception("An order is refused: %s: %s", error, text[:200].decode("utf-8", "replace"))

    def close(self) -> None:
        """Closes both connections."""
        self._wire.drop()
        self._orders.drop()

    def _break(self, error: OSError) -> None:
        logger.warning("The line to the record store broke, opening it again: %s", error)
        self._wire.drop()
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
