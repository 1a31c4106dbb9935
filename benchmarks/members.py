"""Members a second and what they cost: `python -m benchmarks.members [members …]`.

A control plane of its own, one worker with 2 slots, members of /bin/true with output files, in rounds that alternate with
`xargs -P 2` doing the same, so that both see the same machine. CPU time is what the kernel counted for the worker, its guard and
the broker, members excluded.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import measure
from benchmarks.rows import Row, text
from benchmarks.scratch import folder
from taskensemble import handle
from taskensemble.engine import messages
from taskensemble.engine.records import CommandRecord, EntityRecord, MemberRecord, RunRecord, TemplateRecord
from taskensemble.engine.store import Store
from taskensemble.launch.control import ControlPlane
from taskensemble.launch.embedded import free_port, server_binary
from workers.setup import publish_members

ROUNDS = 3


class Plane:
    """A broker and workers that live as long as the benchmark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        port = free_port()
        self.url = f"redis://:bench@127.0.0.1:{port}/0"
        command = [str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "bench"]
        command += ["--dir", str(folder), "--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.control = ControlPlane(self.url, self.url, folder)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.store = Store.connect(self.url, patience=1)
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise

    def worker(self, slots: int) -> subprocess.Popen[bytes]:
        """Starts a worker and waits until it reads messages."""
        name = f"bench-{uuid.uuid4().hex[:6]}"
        environment = {**os.environ, "TASKENSEMBLE_BROKER_URL": self.url, "TASKENSEMBLE_STORE_URL": self.url}
        command = [sys.executable, "-P", "-m", "workers.app", "--name", name, "--slots", str(slots), "--drain", "0"]
        worker = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.workers.append(worker)
        while name not in [record.name for record in self.store.workers()]:
            time.sleep(0.02)
        self.run(["/bin/true"], 2)
        return worker

    def run(self, command: Sequence[str], size: int, wait: bool = True) -> Round:
        """Runs an ensemble to its end, as a driver does."""
        run_id = f"bench-{uuid.uuid4().hex[:8]}"
        path = self.folder / run_id
        run = RunRecord(
            run_id=run_id,
            experiment="bench",
            path=str(path),
            created=time.time(),
            entities=(EntityRecord(index=0, name="m", kind="Ensemble", path=str(path), first=0, size=size),),
            templates=(TemplateRecord(command=CommandRecord(head=tuple(command))),),
        )
        members = [MemberRecord(index=i, entity=0, template=0, name=f"m_{i}") for i in range(size)]
        cpu = self.cpu()
        begun, clock = time.perf_counter(), time.time()
        self.store.write_run(run, members)
        messages.publish_setup(self.url, run)
        written = time.perf_counter()
        if not wait:
            return Round(run_id, size, written - begun, 0.0, 0.0, 0.0, 0.0)
        handle.RunHandle(self.control, run).wait()
        ended = time.perf_counter()
        spent = self.cpu() - cpu
        times = {"start": 0.0, "assets": 0.0}
        for event in self.store.watch(run_id, timeout=1):
            if event.kind in times and not times[event.kind]:
                times[event.kind] = event.time
        return Round(run_id, size, written - begun, ended - begun, times["start"] - clock, spent, ended)

    def cpu(self) -> float:
        """Seconds of CPU that broker, workers and guards have used."""
        pids = [self.server.pid]
        for worker in self.workers:
            if worker.poll() is None:
                children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
                pids += [worker.pid, *map(int, children)]
        ticks = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop_worker(self, worker: subprocess.Popen[bytes]) -> None:
        """Ends a worker."""
        worker.terminate()
        worker.wait(60)
        self.workers.remove(worker)

    def close(self) -> None:
        """Ends everything."""
        for worker in list(self.workers):
            self.stop_worker(worker)
        self.store.close()
        self.server.terminate()
        self.server.wait(20)


@dataclass(frozen=True)
class Round:
    """What one run took, in seconds."""

    run_id: str
    size: int
    written: float
    """Until the driver had written the run."""
    whole: float
    first: float
    """Until the first member had started, on the clocks of this machine."""
    cpu: float
    ended: float


def resident(pid: int) -> float:
    """Resident memory of a process and its children that are not members, in MiB."""
    pids = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"te-guard" in Path(f"/proc/{child}/cmdline").read_bytes():
            pids.append(int(child))
    total = 0
    for each in pids:
        line = next(line for line in Path(f"/proc/{each}/status").read_text().splitlines() if line.startswith("VmRSS"))
        total += int(line.split()[1])
    return total / 1024


def memory(plane: Plane, slots: int) -> float:
    """Resident memory of a worker with all its slots taken, in MiB."""
    worker = plane.worker(slots)
    running = plane.run(["/bin/sleep", "60"], slots, wait=False)
    while plane.store.status(running.run_id).running < slots:
        time.sleep(0.05)
    used = resident(worker.pid)
    plane.store.cancel(running.run_id)
    plane.store.wait_final(running.run_id, 60)
    plane.stop_worker(worker)
    return used


def stopping(plane: Plane, waiting: int, running: int) -> float:
    """Seconds from the call of `stop` to its return, when nothing of the run is alive."""
    worker = plane.worker(running)
    started = plane.run(["/bin/sleep", "60"], waiting + running, wait=False)
    queue = messages.run_queues(plane.store.run(started.run_id))[0].name
    publisher = messages.Publisher(plane.url)
    while plane.store.status(started.run_id).running < running or publisher.length(queue) < waiting:
        time.sleep(0.05)
    run = handle.RunHandle.open(plane.control, started.run_id)
    begun = time.perf_counter()
    run.stop()
    taken = time.perf_counter() - begun
    publisher.close()
    plane.stop_worker(worker)
    return taken


def enqueued(plane: Plane, size: int) -> tuple[float, float, float]:
    """Seconds in which a driver writes members and a worker publishes them, and the broker's memory with all of them, in MiB."""
    written = plane.run(["/bin/true"], size, wait=False)
    run = plane.store.run(written.run_id)
    plane.store.begin_setup(run.run_id, "bench")
    plane.store.ready(run.run_id, "bench")
    plane.store.release(run.run_id, 0)
    publisher = messages.Publisher(plane.url)
    begun = time.perf_counter()
    publish_members(plane.store, publisher, run, 0)
    published = time.perf_counter() - begun
    used = resident(plane.server.pid)
    plane.store.cancel(run.run_id)
    publisher.delete_queues([*(queue.name for queue in messages.run_queues(run)), messages.SERVICE_QUEUE])
    publisher.close()
    plane.store.retire(run.run_id)
    return written.written, published, used


def rows(sizes: Sequence[int] = (1_000, 10_000), queued: int = 100_000) -> list[Row]:
    """The figures of members."""
    found: list[Row] = []
    plane = Plane(folder("members-"))
    try:
        written, published, broker = enqueued(plane, queued)
        worker = plane.worker(2)
        for size in sizes:
            ours, theirs = [], []
            for _ in range(ROUNDS if size <= 1_000 else 1):
                ours.append(plane.run(["/bin/true"], size))
                theirs.append(measure("xargs", size).members_per_s)
            rates = [size / round_.whole for round_ in ours]
            ratios = [a / b for a, b in zip(rates, theirs, strict=True)]
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            cpu = statistics.median(round_.cpu / size * 1e3 for round_ in ours)
            beside = f"`xargs -P 2` {statistics.median(theirs):.0f}"
            found += [
                Row(
                    f"members a second, {size:,} of `/bin/true`, 2 slots", statistics.median(rates), "/s", beside=beside
                ),
                Row("  beside `xargs -P 2`", statistics.median(ratios), "x", 0.5, least=True, beside=f"rounds {each}"),
                Row("  CPU time of worker, guard and broker a member", cpu, "ms", 2.5),
            ]
        single = [plane.run(["/bin/true"], 1) for _ in range(11)]
        plane.stop_worker(worker)
        small, large = memory(plane, 2), memory(plane, 64)
        stop = stopping(plane, 10_000, 64)
    finally:
        plane.close()
    return [
        *found,
        Row("written record to the first member's start, warm", statistics.median(r.first for r in single) * 1e3, "ms"),
        Row("written record to the end of one member, warm", statistics.median(r.whole for r in single) * 1e3, "ms"),
        Row(f"written to the store, {queued:,} members", written, "s"),
        Row(f"published by a worker, {queued:,} members", published, "s"),
        Row(f"memory of the broker, {queued:,} members queued", broker * 1.048576, "MB", 150),
        Row(
            "memory of a worker with its guard, 64 slots running",
            large * 1.048576,
            "MB",
            200,
            beside=f"2 slots: {small * 1.048576:.0f} MB",
        ),
        Row("stop of 10,000 waiting and 64 running members", stop, "s", 2),
    ]


if __name__ == "__main__":
    sys.stdout.write(text(rows([int(size) for size in sys.argv[1:]] or (1_000, 10_000))) + "\n")
