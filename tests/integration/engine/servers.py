"""A real Valkey server that tests own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from taskensemble.launch.embedded import free_port, server_binary


class Server:
    """A password-protected server with an append-only file, which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://:secret@127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(server_binary()), "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", "secret"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", "", "--daemonize", "no"]
        with (self.folder / "valkey.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client().ping()
                return
            except (redis.ConnectionError, redis.BusyLoadingError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, protocol=2)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> Path:
        """The append-only file that grows."""
        (path,) = self.folder.glob("appendonlydir/*.incr.aof")
        return path

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@contextmanager
def running_server(place: Path | None = None) -> Iterator[Server]:
    """A server in a folder of its own (in `place`); both are gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="te-test-", dir=place))
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
