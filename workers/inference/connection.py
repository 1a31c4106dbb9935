"""A lean client of a Redis-protocol server: one socket, one command at a time.

A worker's speed is its round trip, so this reads a reply with as few system calls, copies and Python objects as it can: small
byte strings are cut out of one receive buffer, large ones are received into memory of their own. Every byte string of a reply is
a fresh bytearray, aligned for any tensor.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

from .frames import Buffer

_RECEIVE = 64 * 1024
_DISPLACED_NS = 20_000
"""A look at the socket takes about 1 µs: one that took so long lost its core to somebody else."""
_CROWDED_AFTER = 2
_PAUSE = 500
"""Replies that are waited for asleep, once polling was seen to compete for a core."""
_VECTOR = 64


Credentials = tuple[str, str]
"""User, empty for the default one, and password."""


class ServerError(Exception):
    """The server's error reply."""


class Connection:
    """A connection to `host:port`, `[v6]:port` or `unix://path`.

    Arguments:
        address: where the server listens.
        credentials: for AUTH, or None.
        poll: microseconds to poll the socket before sleeping on it; 0: sleep at once. Polling wakes up some 50 µs sooner and
            is given up for a while whenever it turns out that no core was idle.
    """

    def __init__(
        self, address: str, credentials: Credentials | None = None, poll: int = 0, timeout: float = 10.0
    ) -> None:
        self.address = address
        self._socket = _connect(address, timeout)
        self._buffer = bytearray(_RECEIVE)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._poll_ns = poll * 1000
        self._pause = 0
        self._crowded = 0
        if credentials:
            user, password = credentials
            self.command("AUTH", *((user, password) if user else (password,)))

    def fileno(self) -> int:
        """For select and poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; nothing happens when it is closed."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def command(self, *words: str | int | Buffer) -> Any:
        """Send a command and return its reply; raises ServerError for an error reply."""
        self.send(*words)
        return self.reply()

    def send(self, *words: str | int | Buffer) -> None:
        """Send a command; its reply is read by `reply`."""
        parts: list[Buffer] = [b"*%d\r\n" % len(words)]
        for word in words:
            encoded = str(word).encode("utf-8", "surrogateescape") if isinstance(word, str | int) else word
            parts += (b"$%d\r\n" % len(encoded), encoded, b"\r\n")
        self.send_parts(parts)

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Send ready-made bytes; long ones are not copied."""
        if sum(map(len, parts)) < _RECEIVE:
            self._socket.sendall(b"".join(parts))
            return
        views = [memoryview(part) for part in parts]
        first = 0
        while first < len(views):
            sent = self._socket.sendmsg(views[first : first + _VECTOR])
            while first < len(views) and sent >= len(views[first]):
                sent -= len(views[first])
                first += 1
            if sent:
                views[first] = views[first][sent:]

    @property
    def buffer(self) -> bytearray:
        """Where replies are received, from the beginning on, for who receives into it instead: never resized or replaced."""
        return self._buffer

    @property
    def pending(self) -> bool:
        """Whether something was received that no reply has taken yet."""
        return self._start < self._end

    def received(self, count: int) -> None:
        """So many bytes lie at the beginning of the buffer; 0: the server closed the connection."""
        self._start = self._end = 0
        self._take(count)

    def wait(self) -> None:
        """Wait until a reply begins to arrive: polling first, if this connection polls and a core is idle."""
        if self._start < self._end or not self._poll_ns:
            return
        if self._pause:
            self._pause -= 1
            return
        receive, view = self._socket.recv_into, self._view
        looked = perf_counter_ns()
        until = looked + self._poll_ns
        displaced = False
        while looked < until:
            try:
                count = receive(view, _RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                now = perf_counter_ns()
                displaced = displaced or now - looked > _DISPLACED_NS
                looked = now
                continue
            self._take(count)
            break
        self._crowded = self._crowded + 1 if displaced else max(0, self._crowded - 1)
        if self._crowded > _CROWDED_AFTER:
            self._crowded, self._pause = 0, _PAUSE

    def reply(self) -> Any:
        """Read one reply: bytearray, int, None, str (a simple string) or a list of replies; raises ServerError."""
        line = self._line()
        kind = line[:1]
        if kind == b"$":
            return self._bulk(int(line[1:]))
        if kind == b"*":
            count = int(line[1:])
            return None if count < 0 else self._array(count)
        if kind == b":":
            return int(line[1:])
        text = str(line[1:], "utf-8", "replace")
        if kind == b"-":
            raise ServerError(text)
        if kind == b"+":
            return text
        raise ConnectionError(f"{self.address}: not a reply of a Redis server: {bytes(line[:40])!r}")

    def _array(self, count: int) -> list[Any]:
        """The replies of an array. All are read before the first error among them is raised: what stayed unread would be
        taken for the next command's reply."""
        replies: list[Any] = []
        error: ServerError | None = None
        for _ in range(count):
            try:
                replies.append(self.reply())
            except ServerError as inner:
                error = error or inner
        if error is not None:
            raise error
        return replies

    def strings(self) -> list[Any]:
        """Read one reply that is an array of byte strings; one small string, the usual, is cut out at once."""
        start, end, buffer = self._start, self._end, self._buffer
        if buffer.startswith(b"*1\r\n$", start, end):
            head = buffer.find(b"\r\n", start + 5, end)
            if head > 0:
                stop = head + 2 + int(buffer[start + 5 : head])
                if stop + 2 <= end:
                    self._start = stop + 2
                    return [buffer[head + 2 : stop]]
        reply: list[Any] = self.reply()
        return reply

    def _line(self) -> bytearray:
        while True:
            at = self._buffer.find(b"\r\n", self._start, self._end)
            if at >= 0:
                line = self._buffer[self._start : at]
                self._start = at + 2
                return line
            self._fill()

    def _bulk(self, length: int) -> bytearray | None:
        if length < 0:
            return None
        start, have = self._start, self._end - self._start
        if have >= length + 2:
            self._start = start + length + 2
            return self._buffer[start : start + length]
        blob = bytearray(length)
        have = min(have, length)
        blob[:have] = self._view[start : start + have]
        self._start += have
        if have < length:
            rest = memoryview(blob)[have:]
            while len(rest):
                count = self._socket.recv_into(rest)
                if not count:
                    raise ConnectionError(f"{self.address}: the server closed the connection")
                rest = rest[count:]
        while self._end - self._start < 2:
            self._fill()
        self._start += 2
        return blob

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            left = self._end - self._start
            self._view[:left] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, left
        if self._end == _RECEIVE:
            raise ConnectionError(f"{self.address}: a reply's line is longer than {_RECEIVE} bytes")
        self._take(self._socket.recv_into(self._view[self._end :]))

    def _take(self, count: int) -> None:
        if not count:
            raise ConnectionError(f"{self.address}: the server closed the connection")
        if self._start == self._end:
            self._start, self._end = 0, 0
        self._end += count


def wait_for_any(connections: Sequence[Connection], timeout: float | None = None) -> list[Connection]:
    """The connections on which a reply begins to arrive; all that are ready, or none after `timeout` seconds."""
    poller = select.poll()
    by_descriptor = {connection.fileno(): connection for connection in connections}
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    return [by_descriptor[descriptor] for descriptor, _ in poller.poll(None if timeout is None else timeout * 1000)]


def _connect(address: str, timeout: float) -> socket.socket:
    if address.startswith("unix://"):
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(timeout)
        connected.connect(os.fspath(address.removeprefix("unix://")))
    else:
        host, _, port = address.rpartition(":")
        connected = socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A server whose node has gone answers nothing, not even that it is gone.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)
    connected.settimeout(None)
    return connected
