"""One connection to a Redis-protocol server, made for large tensors.

Arguments of 16 KiB and more are handed to the kernel where they lie, and a bulk reply of 64 KiB and more is received
into memory of its own, which the caller may keep: a tensor is copied once in each direction, by the kernel. Everything
else follows the protocol's version 2. A connection belongs to one thread at a time; its owner locks.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Argument = bytes | bytearray | memoryview | str | int
Reply = Any
"""bytes, memoryview (a large bulk string), int, None, a list of replies, `Status` or `ReplyError`."""

_SCATTER = 16 * 1024
_LARGE = 64 * 1024
_MAX_PARTS = 512


class Status(str):
    """A simple string reply: OK, PONG, TIMEDOUT, …"""

    __slots__ = ()


class ReplyError(Exception):
    """An error reply, with the server's text."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """`host:port`, `tcp://host:port`, `[v6]:port` or `unix://path`.

        Raises:
            ValueError: it is none of these.
        """
        text = text.strip()
        if text.startswith("unix://"):
            return cls("", 0, text.removeprefix("unix://"))
        host, colon, port = text.removeprefix("tcp://").rpartition(":")
        if not colon or not host or not port.isdecimal():
            raise ValueError(f"{text} is not a valid database node address: write host:port or unix://path")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"{self.host}:{self.port}"


class Connection:
    """A socket, the encoder and the parser."""

    def __init__(self, address: Address, connect_timeout: float) -> None:
        self.address = address
        self._buffer = b""
        self._at = 0
        self._owner = os.getpid()
        if address.path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(connect_timeout)
            try:
                self._socket.connect(address.path)
            except OSError:
                self._socket.close()
                raise
        else:
            self._socket = socket.create_connection((address.host, address.port), connect_timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._timeout: float | None = connect_timeout

    def close(self) -> None:
        self._socket.close()

    @property
    def inherited(self) -> bool:
        """Whether a fork took this connection into another process, which must not use it."""
        return self._owner != os.getpid()

    def exchange(self, commands: Sequence[Sequence[Argument]], timeout: float | None) -> list[Reply]:
        """Send the commands in one go and read their replies, errors among them, in order.

        Arguments:
            timeout: seconds without a byte from the server, or None to wait without end.

        Raises:
            OSError: the connection broke, or nothing came for `timeout` seconds (`TimeoutError`). It cannot be used again.
        """
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        self._send(commands)
        return [self._read() for _ in commands]

    def _send(self, commands: Sequence[Sequence[Argument]]) -> None:
        parts: list[bytes | bytearray | memoryview] = []
        small = bytearray()
        for command in commands:
            small += b"*%d\r\n" % len(command)
            for argument in command:
                if isinstance(argument, str):
                    value: bytes | bytearray | memoryview = argument.encode()
                elif isinstance(argument, int):
                    value = b"%d" % argument
                else:
                    value = argument
                length = len(value)
                small += b"$%d\r\n" % length
                if length >= _SCATTER:
                    parts += [small, value]
                    small = bytearray(b"\r\n")
                else:
                    small += value
                    small += b"\r\n"
        if not parts:
            self._socket.sendall(small)
            return
        parts.append(small)
        for start in range(0, len(parts), _MAX_PARTS):
            self._send_parts([memoryview(part) for part in parts[start : start + _MAX_PARTS]])

    def _send_parts(self, parts: list[memoryview]) -> None:
        while parts:
            sent = self._socket.sendmsg(parts)
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]

    def _read(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self._bulk(int(rest))
        if kind == b"*":
            return None if rest == b"-1" else [self._read() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return Status(rest.decode(errors="replace"))
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        raise ConnectionError(f"{self.address} does not speak the Redis protocol: {line[:40]!r}")

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            self._fill()
        line = self._buffer[self._at : end]
        self._at = end + 2
        return line

    def _bulk(self, length: int) -> bytes | memoryview:
        if length < _LARGE:
            while len(self._buffer) - self._at < length + 2:
                self._fill()
            start = self._at
            self._at = start + length + 2
            return self._buffer[start : start + length]
        target = np.empty(length, np.uint8).data
        ready = min(len(self._buffer) - self._at, length)
        target[:ready] = self._buffer[self._at : self._at + ready]
        self._at += ready
        while ready < length:
            received = self._socket.recv_into(target[ready:])
            if not received:
                raise ConnectionError(f"{self.address} closed the connection")
            ready += received
        while len(self._buffer) - self._at < 2:
            self._fill()
        self._at += 2
        return target

    def _fill(self) -> None:
        received = self._socket.recv(_LARGE)
        if not received:
            raise ConnectionError(f"{self.address} closed the connection")
        self._buffer = self._buffer[self._at :] + received if self._at < len(self._buffer) else received
        self._at = 0
