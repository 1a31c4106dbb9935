"""What the system tests share: one Slurm for the session, and drivers that run as a user's would, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.system import sge_cluster
from tests.system.sge_cluster import GridEngine, running_grid_engine
from tests.system.slurm_cluster import SlurmCluster, missing_programs, running_cluster, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = """
import json, os, sys, time
from pathlib import Path
from taskensemble import Experiment

def tell(**values):
    print("RESULT " + json.dumps(values, default=str), flush=True)
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    missing = missing_programs()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; run tests/system/install.sh")
    # Slurm's sockets want a short folder.
    folder = Path(tempfile.mkdtemp(prefix="te-slurm-", dir="/tmp"))
    try:
        with running_cluster(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The session's Slurm with an empty queue, before and after the test."""
    cluster.drain()
    yield cluster
    cluster.drain()


@dataclass
class RunningDriver:
    """A driver's process."""

    process: subprocess.Popen[str]
    folder: Path
    lines: list[str] = field(default_factory=list)

    def result(self, timeout: float = 180) -> dict[str, Any]:
        """What it tells next.

        Raises:
            AssertionError: it ended without telling anything more; all that it printed and its workers' logs are in the message.
        """
        assert self.process.stdout is not None
        alarm = _Alarm(self.process, timeout)
        with alarm:
            for line in self.process.stdout:
                self.lines.append(line)
                if line.startswith("RESULT "):
                    told: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
                    return told
        raise AssertionError(
            f"the driver told nothing more (timed out: {alarm.rang})\n{''.join(self.lines)}{self.logs()}"
        )

    def end(self, timeout: float = 120) -> int:
        """Wait for its end; its exit status."""
        assert self.process.stdout is not None
        with _Alarm(self.process, timeout):
            self.lines += list(self.process.stdout)
            return self.process.wait()

    def logs(self) -> str:
        """What its workers and batch jobs have written."""
        found = [
            path
            for path in self.folder.rglob("*")
            if ".taskensemble" in path.parts and path.suffix in (".log", ".err", ".out")
        ]
        return "".join(f"\n== {path}\n{path.read_text(errors='replace')[-3000:]}" for path in found)


class _Alarm:
    """Kills a process that takes too long, so that reading its output ends."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        import threading

        self.rang = False
        self._process = process
        self._timer = threading.Timer(seconds, self._ring)

    def _ring(self) -> None:
        self.rang = True
        self._process.kill()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()


Drive = Callable[..., RunningDriver]


@contextlib.contextmanager
def driving(cluster: SlurmCluster | GridEngine) -> Iterator[Drive]:
    """Starts drivers on a cluster; they have ended, and their jobs, when the `with` block has."""
    folder = Path(tempfile.mkdtemp(prefix="te-drive-", dir="/tmp"))
    started: list[RunningDriver] = []

    def start(script: str, *prefix: str, **environment: str) -> RunningDriver:
        path = folder / f"driver{len(started)}.py"
        path.write_text(HEAD + textwrap.dedent(script))
        process = subprocess.Popen(
            [*prefix, sys.executable, str(path)],
            env={
                **cluster.environment,
                "PYTHONPATH": str(REPOSITORY),
                "OMPI_ALLOW_RUN_AS_ROOT": "1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                **environment,
            },
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        driver = RunningDriver(process, folder)
        started.append(driver)
        return driver

    yield start
    for driver in started:
        if driver.process.poll() is None:
            os.killpg(driver.process.pid, signal.SIGTERM)
            try:
                driver.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(driver.process.pid, signal.SIGKILL)
                driver.process.wait()
        assert driver.process.stdout is not None
        driver.process.stdout.close()
    wait_until(lambda: not cluster.jobs() or not cluster.drain(), 60, "the driver's jobs end")
    shutil.rmtree(folder, ignore_errors=True)


def survivor(job_variable: str) -> str:
    """A member's shell script: the first attempt stays until it is ended, the next one completes; `trace` has each one's job."""
    return f"""
echo attempt $TASKENSEMBLE_ATTEMPT job ${job_variable} >> trace
if [ -e second ]; then exit 0; fi
touch second; sleep 300
"""


def check_successor(driver: RunningDriver, cluster: SlurmCluster | GridEngine, cancel: str, url: str) -> None:
    """Kills a driver whose two survivors run in a job, and cancels the job: it has asked for another, where the run completes.

    Parameters:
        cancel: the command that cancels a job
        url: of the broker, where the run's record is
    """
    from taskensemble.engine.store import Store

    told = driver.result()
    driver.process.kill()
    driver.process.wait()
    (first,) = cluster.jobs()
    cluster.run(cancel, first)
    store = Store(url)
    try:
        wait_until(lambda: store.status(told["run"]).state.final, 120, f"the run ends{driver.logs()}")
        assert store.status(told["run"]).completed == 2
    finally:
        store.close()
    for path in told["paths"]:
        trace = Path(path, "trace").read_text().split()
        assert (trace[1], trace[3], trace[5]) == ("1", first, "2")
        assert trace[7] != first
    wait_until(lambda: not cluster.jobs(), 60, f"the successor ends with its work{driver.logs()}")


@pytest.fixture
def drive(slurm: SlurmCluster) -> Iterator[Drive]:
    """Starts drivers on the session's Slurm: `drive(script, "salloc", "-N2")`."""
    with driving(slurm) as start:
        yield start


@pytest.fixture(scope="session")
def grid_engine() -> Iterator[GridEngine]:
    """The session's Grid Engine."""
    if why := sge_cluster.missing():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="te-sge-", dir="/tmp"))
    try:
        with running_grid_engine(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def drive_sge(grid_engine: GridEngine) -> Iterator[Drive]:
    """Starts drivers on the session's Grid Engine."""
    grid_engine.drain()
    with driving(grid_engine) as start:
        yield start


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    """URL of a Valkey server of the test's own, with a password."""
    from taskensemble.launch.embedded import free_port, server_binary

    port = free_port()
    command = [
        str(server_binary()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--requirepass",
        "secret",
        "--save",
        "",
    ]
    process = subprocess.Popen([*command, "--dir", str(tmp_path)], stdout=subprocess.DEVNULL)
    url = f"redis://:secret@127.0.0.1:{port}/0"
    try:
        import redis

        with redis.Redis.from_url(url) as client:
            wait_until(lambda: _answers(client), 20, "the server answers")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _answers(client: Any) -> bool:
    import redis

    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
