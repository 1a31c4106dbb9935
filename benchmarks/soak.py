"""Many short runs of one driver: `python -m benchmarks.soak [minutes]`. Memory, keys and descriptors must not grow.

Eight hours of work in short: what grows, grows by runs and members, so these come as fast as they can, and the records of a run
expire after seconds instead of days. What is left at a third of the time is compared with what is left at the end. Meanwhile 200
threads ask for the status of the run, all at once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from benchmarks.members import Plane
from benchmarks.rows import Row, text
from taskensemble import Experiment

MEMBERS = 500
QUERIES = 200
KEEP = 5.0
"""Seconds that the records of a run live."""


@dataclass(frozen=True)
class Use:
    """What the processes hold at one moment."""

    memory: dict[str, float]
    descriptors: dict[str, int]
    keys: int
    broker: float


def use(plane: Plane) -> Use:
    """Memory (MB) and descriptors of driver, server, worker and its guard; keys and memory of the control plane."""
    (worker,) = plane.workers
    processes = {
        "driver": psutil.Process(),
        "server": psutil.Process(plane.server.pid),
        "worker": psutil.Process(worker.pid),
        "guard": next(each for each in psutil.Process(worker.pid).children() if "te-guard" in each.name()),
    }
    with redis.Redis.from_url(plane.url) as client:
        keys, counted = int(client.dbsize()), client.info("memory")["used_memory"] / 1e6
    return Use(
        {name: process.memory_info().rss / 1e6 for name, process in processes.items()},
        {name: process.num_fds() for name, process in processes.items()},
        keys,
        counted,
    )


def soak(minutes: float) -> list[Row]:
    """The rows of so many minutes of runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="te-soak-")))
        pool = stack.enter_context(ThreadPoolExecutor(QUERIES))
        plane = stack.enter_context(closing(Plane(folder)))
        plane.worker(2)
        experiment = stack.enter_context(Experiment("soak", exp_path=folder, broker=plane.url, keep_records=KEEP))
        program = experiment.create_run_settings("/bin/true")
        ensemble = experiment.create_ensemble("e", replicas=MEMBERS, run_settings=program, keep_outputs="failed")
        begun = time.monotonic()
        runs = queries = 0
        slowest = 0.0
        first: Use | None = None
        while (gone := time.monotonic() - begun) < minutes * 60:
            run = experiment.start(ensemble, block=False, quiet=True)
            while not run.finished():
                asked = time.monotonic()
                list(pool.map(lambda _, run=run: run.status().completed, range(QUERIES)))
                slowest = max(slowest, time.monotonic() - asked)
                queries += QUERIES
                with suppress(TimeoutError):
                    run.wait(timeout=1.0)
            if run.status().completed != MEMBERS:
                raise RuntimeError(f"run {run.run_id}: {run.status()}")
            runs += 1
            if first is None and gone > minutes * 20:
                first = _settled(plane)
        last = _settled(plane)
    if first is None:
        raise RuntimeError("the time was too short for a run")
    rows = [
        Row("runs of 500 members, all completed", runs, beside=f"{runs * MEMBERS:,} members in {minutes:g} minutes"),
        Row("queries of 200 threads answered", queries, beside=f"200 at once: {slowest:.2f} s at most"),
        Row("keys in the control plane", last.keys, beside=f"after a third: {first.keys}"),
        Row("memory that the server counts", last.broker, "MB", beside=f"after a third: {first.broker:.1f} MB"),
    ]
    for name in sorted(last.memory):
        rows.append(
            Row(
                f"memory of the {name}",
                last.memory[name],
                "MB",
                beside=f"after a third: {first.memory.get(name, 0):.1f} MB",
            )
        )
        rows.append(
            Row(
                f"descriptors of the {name}",
                last.descriptors[name],
                beside=f"after a third: {first.descriptors.get(name, 0)}",
            )
        )
    return rows


def _settled(plane: Plane) -> Use:
    """What is held once the records of all runs have expired."""
    deadline = time.monotonic() + KEEP + 30
    found = use(plane)
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = use(plane)
        if now.keys == found.keys and time.monotonic() > deadline - 25:
            return now
        found = now
    return found


if __name__ == "__main__":
    print(text(soak(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)))
