"""A control plane with real workers, as tests drive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taskensemble.engine import messages
from taskensemble.engine.records import MemberRecord, RunRecord, RunStatus, WorkerRecord
from taskensemble.engine.store import Store

ROOT = Path(__file__).resolve().parents[3]
BEGINS = 240.0
"""Seconds within which a worker begins, or a program: nothing is promised of it, and a machine that does much else is slow."""


def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Waits for a condition, and fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def journal(path: Path) -> list[tuple[str, int, str, float]]:
    """Lines `member attempt word time` that members have written, in their order."""
    rows = (line.split() for line in path.read_text().splitlines()) if path.exists() else ()
    return [(member, int(attempt), word, float(when)) for member, attempt, word, when in rows]


def check_journal(path: Path, members: int) -> None:
    """Every member ended once, and no two attempts of one overlapped."""
    rows = journal(path)
    ends = [row[0] for row in rows if row[2] == "end"]
    assert sorted(ends) == sorted(set(ends)), f"ended twice: {rows}"
    assert len(ends) == members, rows


JOURNAL = """
import os, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
def write(word):
    line = f"{os.environ['TASKENSEMBLE_MEMBER']} {os.environ['TASKENSEMBLE_ATTEMPT']} {word} {time.time()}\\n"
    with open(path, "a") as stream:
        stream.write(line)
write("start")
if "daemon" in sys.argv and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
until = time.monotonic() + seconds
while time.monotonic() < until:
    time.sleep(0.05)
write("end")
"""
"""A member that says when it starts and ends: `JOURNAL path seconds [daemon]`."""


def carriers(text: str) -> list[int]:
    """Living processes that have this text in their environment or arguments, this one excluded."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                content = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in content and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


class Plane:
    """A broker with record store, and the workers that a test starts."""

    def __init__(self, broker_url: str, folder: Path, store_url: str | None = None) -> None:
        self.broker_url = broker_url
        self.store_url = store_url or broker_url
        self.folder = folder
        self.store = Store.connect(self.store_url)
        self.workers: list[subprocess.Popen[bytes]] = []

    def worker(self, *options: str, wait: bool = True) -> subprocess.Popen[bytes]:
        """Starts a worker, and waits until it has registered."""
        name = f"w{len(self.workers)}"
        environment = {
            **os.environ,
            "TASKENSEMBLE_BROKER_URL": self.broker_url,
            "TASKENSEMBLE_STORE_URL": self.store_url,
        }
        environment["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-P", "-m", "workers.app", "--name", name, "--log-level", "INFO", *options]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
        self.workers.append(process)
        if wait:
            until(lambda: name in [worker.name for worker in self.store.workers()], f"worker {name}", BEGINS)
        return process

    def log(self, name: str) -> str:
        """What a worker has said."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def record(self, name: str) -> WorkerRecord:
        """How a worker has registered."""
        return next(worker for worker in self.store.workers() if worker.name == name)

    def start(self, run: RunRecord, members: Sequence[MemberRecord]) -> str:
        """Starts a run."""
        self.store.write_run(run, members)
        messages.publish_setup(self.broker_url, run)
        return run.run_id

    def finish(self, run_id: str, seconds: float = 60.0) -> RunStatus:
        """Waits for a run's end."""
        status = self.store.wait_final(run_id, seconds)
        assert status.state.final, f"{status}\n" + "\n".join(self.log(f"w{i}") for i in range(len(self.workers)))
        return status

    def close(self) -> None:
        """Ends all workers."""
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.workers:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.store.close()
