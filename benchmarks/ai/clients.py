"""What is timed: one raw socket, several client processes, and a model in process."""

from __future__ import annotations

import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np

Argument = bytes | str | int


def encoded(*arguments: Argument) -> bytes:
    """A command as it goes over the socket."""
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Raw:
    """A socket, and nothing between it and the clock: commands are encoded before, replies are only received."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(4 * 1024 * 1024)

    def call(self, payload: bytes, length: int) -> bytes:
        """Send a command and receive a reply of a known length."""
        self._socket.sendall(payload)
        view = memoryview(self._buffer)
        got = self._socket.recv_into(view)
        while got < length:
            got += self._socket.recv_into(view[got:])
        return bytes(self._buffer[:got]) if got < 200 else b""

    def checked(self, payload: bytes, length: int) -> None:
        """One call whose reply must be no error."""
        reply = self.call(payload, length)
        if reply.startswith(b"-") or b"\r\n-" in reply:
            raise RuntimeError(reply.decode())

    def median(self, payload: bytes, length: int, seconds: float) -> float:
        """The median time of a call, in microseconds, over that many seconds."""
        self.checked(payload, length)
        clock = time.perf_counter_ns
        times = []
        end = clock() + int(seconds * 1e9)
        while (start := clock()) < end:
            self.call(payload, length)
            times.append(clock() - start)
        return statistics.median(times) / 1000


def _client(address: str, payload: bytes, length: int, seconds: float, barrier: Barrier, counts: Any, i: int) -> None:
    raw = Raw(address)
    raw.checked(payload, length)
    barrier.wait()
    count = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        raw.call(payload, length)
        count += 1
    counts[i] = count


def rate(address: str, payloads: Sequence[bytes], length: int, seconds: float) -> float:
    """Calls a second of client processes, one for each payload, together."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(payloads))
    counts = context.Array("q", len(payloads))
    processes = [
        context.Process(target=_client, args=(address, payload, length, seconds, barrier, counts, i))
        for i, payload in enumerate(payloads)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError("a client process failed")
    return sum(int(counts[i]) for i in range(len(payloads))) / seconds


class InProcess:
    """A process that only loads a model and calls it, with torch's own choice of threads, on torch's `device`."""

    def __init__(self, path: str, shape: tuple[int, ...], device: str = "cpu") -> None:
        command = [sys.executable, "-m", "benchmarks.ai.in_process", path, json.dumps(shape), device]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def median(self, size: int, seconds: float) -> float:
        """The median time of a call with a batch of that size, in microseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([size, seconds]), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def tensor_set(key: str, array: np.ndarray[Any, Any]) -> tuple[Argument, ...]:
    """The words of AI.TENSORSET for a float32 array."""
    return ("AI.TENSORSET", key, "FLOAT", *array.shape, "BLOB", array.tobytes())
