"""Inference workers on another host: a network namespace with processes of its own, reached over a line of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import redis

from taskensemble.database import free_port

pytest.importorskip("torch")

SLOW = "def same(x):\n    for i in range(300):\n        y = torch.rand(200, 200) @ torch.rand(200, 200)\n    return x\n"


class Host:
    """A network namespace at the other end of a line; what runs there sees no process of this host."""

    def __init__(self) -> None:
        self.name = f"ti{secrets.token_hex(3)}"
        subnet = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}"
        self.here, self.there = f"{subnet}.1", f"{subnet}.2"

    def make(self) -> None:
        inside, outside = f"{self.name}i", f"{self.name}o"
        _ip("netns", "add", self.name)
        _ip("link", "add", inside, "type", "veth", "peer", "name", outside)
        _ip("link", "set", inside, "netns", self.name)
        _ip("addr", "add", f"{self.here}/24", "dev", outside)
        _ip("link", "set", outside, "up")
        _ip("netns", "exec", self.name, "ip", "addr", "add", f"{self.there}/24", "dev", inside)
        _ip("netns", "exec", self.name, "ip", "link", "set", inside, "up")

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        inside = ["ip", "netns", "exec", self.name, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        return subprocess.Popen([*inside, *command], stderr=subprocess.DEVNULL)

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def host() -> Iterator[Host]:
    if os.geteuid() or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("namespaces need root, iproute2 and util-linux")
    made = Host()
    try:
        made.make()
        subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], check=True, capture_output=True)
        yield made
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no namespaces can be made here: {error.stderr.decode().strip()}")
    finally:
        made.remove()


def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_workers_of_another_host_serve_one_device_and_one_goes_on_when_the_other_dies(
    start: Callable[..., Any], host: Host
) -> None:
    port = free_port(host.here)
    server = start(port=port, interfaces=(host.here,), supervise=False)
    command = [sys.executable, "-P", "-m", "taskensemble.cli.main", "inference-worker", "--db", f"{host.here}:{port}"]
    workers = [host.run(*command, "--backend", "TORCH", "--device", "CPU") for _ in range(2)]
    try:
        until(lambda: len(server.workers()) == 2)
        assert [worker["shm"] for worker in server.workers()] == [0, 0]
        server("AI.SCRIPTSET", "s", "CPU", "SOURCE", SLOW)
        large = np.random.default_rng(1).random(200_000)
        server.put("x", large)
        answers: list[bytes] = []

        def ask(index: int) -> None:
            client: Any = redis.Redis(unix_socket_path=str(server.folder / "s"), socket_timeout=120)
            for _ in range(6):
                answers.append(
                    client.execute_command("AI.SCRIPTRUN", "s", "same", "INPUTS", "x", "OUTPUTS", f"y{index}")
                )
            client.close()

        before = {worker["id"]: worker["units"] for worker in server.workers()}
        callers = [threading.Thread(target=ask, args=(index,)) for index in range(4)]
        for caller in callers:
            caller.start()
        until(lambda: all(worker["units"] > before[worker["id"]] + 1 for worker in server.workers()))
        workers[0].send_signal(signal.SIGKILL)
        for caller in callers:
            caller.join(120)
        assert answers == [b"OK"] * 24
        assert len(server.workers()) == 1
        for index in range(4):
            np.testing.assert_array_equal(server.get(f"y{index}"), large)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(30)
