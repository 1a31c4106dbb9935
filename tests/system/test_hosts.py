"""Three hosts made of network namespaces: broker, database and driver on one, a worker on each of the others; one is cut off."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taskensemble.launch.embedded import server_binary
from tests.system.conftest import HEAD, REPOSITORY, RunningDriver
from tests.system.slurm_cluster import wait_until

LEASE = 6


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass
class Hosts:
    """Three namespaces on one bridge: h1, h2, h3 with the addresses 10.77.5.1 to 3."""

    mark: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def name(self, host: str) -> str:
        return f"te{self.mark}{host}"

    def address(self, host: str) -> str:
        return f"10.77.5.{host[1:]}"

    def command(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name(host), *command]

    def start(self, host: str, *command: str, log: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                self.command(host, *command),
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
                cwd=self.folder,
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        return process

    def cut(self, host: str) -> None:
        ip("link", "set", f"{self.name(host)}b", "down")

    def join(self, host: str) -> None:
        ip("link", "set", f"{self.name(host)}b", "up")

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = Hosts(secrets.token_hex(2), tmp_path)
    bridge = f"te{made.mark}br"
    try:
        ip("link", "add", bridge, "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network devices can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "set", bridge, "up")
        for host in ("h1", "h2", "h3"):
            space, inside, outside = made.name(host), f"{made.name(host)}a", f"{made.name(host)}b"
            ip("netns", "add", space)
            ip("link", "add", inside, "type", "veth", "peer", "name", outside)
            ip("link", "set", inside, "netns", space)
            ip("link", "set", outside, "master", bridge, "up")
            for arguments in (
                ("addr", "add", f"{made.address(host)}/24", "dev", inside),
                ("link", "set", inside, "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("netns", "exec", space, "ip", *arguments)
        yield made
    finally:
        made.stop()
        for host in ("h1", "h2", "h3"):
            subprocess.run(["ip", "netns", "del", made.name(host)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)


DRIVER = """
exp = Experiment("cut")
db = exp.create_database(port=0, interface="10.77.5.1")
code = '''
import os, sys, time
from redis import Redis
with open("trace", "a") as file:
    file.write(os.environ["TASKENSEMBLE_ATTEMPT"] + chr(10))
time.sleep(2)
host, port = os.environ["SSDB"].split(":")
Redis(host=host, port=int(port), socket_timeout=5, socket_connect_timeout=5).incr("done-" + os.environ["TASKENSEMBLE_MEMBER"])
'''
ens = exp.create_ensemble("e", run_settings=exp.create_run_settings(sys.executable, ["-c", code]), replicas=24, retries=2)
handle = exp.start(db, ens, block=False, quiet=True)
tell(run=handle.run_id)
handle.wait()
tell(states=exp.get_status(ens), workers=sorted({row["worker"] for row in exp.results()}),
     attempts=[row["attempt"] for row in exp.results()])
exp.stop(db)
"""


def test_a_host_that_is_cut_off_and_returns_costs_a_run_nothing_but_time(hosts: Hosts, tmp_path: Path) -> None:
    broker = f"redis://:secret@{hosts.address('h1')}:6390/0"
    hosts.start(
        "h1", str(server_binary()), "--port", "6390", "--bind", hosts.address("h1"), "--requirepass", "secret", "--save", "",
        log="broker.log",
    )  # fmt: skip
    for host in ("h2", "h3"):
        command = [sys.executable, "-P", "-m", "workers.app", "--slots", "2", "--name", host, "--lease", str(LEASE)]
        hosts.start(host, *command, log=f"{host}.log", TASKENSEMBLE_BROKER_URL=broker)
    (tmp_path / "driver.py").write_text(HEAD + DRIVER)
    process = subprocess.Popen(
        hosts.command("h1", sys.executable, str(tmp_path / "driver.py")),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TASKENSEMBLE_BROKER_URL": broker},
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    driver = RunningDriver(process, tmp_path)
    try:
        run_id = driver.result()["run"]
        watch = [
            sys.executable,
            "-c",
            "import json, sys; from taskensemble.engine.store import Store; s = Store(sys.argv[1]);"
            "print(json.dumps([w.name for w in s.workers() if w.running]))",
            broker,
        ]

        def busy() -> list[str]:
            done = subprocess.run(
                hosts.command("h1", *watch),
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                capture_output=True,
                text=True,
                check=False,
            )
            return json.loads(done.stdout or "[]")  # type: ignore[no-any-return]

        wait_until(lambda: busy() == ["h2", "h3"], 40, f"both workers are busy with {run_id}")
        hosts.cut("h2")
        wait_until(
            lambda: "h2" not in busy() or process.poll() is not None,
            3 * LEASE + 30,
            "the cut-off host's members are lost",
        )
        hosts.join("h2")
        told = driver.result(timeout=150)
        assert told["states"] == ["Completed"] * 24
        assert set(told["workers"]) == {"h2", "h3"}
        assert max(told["attempts"]) >= 2
        assert driver.end() == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
