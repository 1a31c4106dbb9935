"""Simulated workers in a few processes against one broker, and runs on them."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.scale.broker import Broker, Counts, cpu_seconds
from benchmarks.scale.worker import READY
from taskensemble.engine import messages
from taskensemble.engine.records import CommandRecord, EntityRecord, MemberRecord, RunRecord, RunStatus, TemplateRecord
from taskensemble.engine.store import Store

READY_WITHIN = 1200.0
SPAN_BATCH = 50_000
"""Members whose times are read at once."""


@dataclass(frozen=True)
class Spent:
    """What a run, or a while, cost the broker."""

    workers: int
    slots: int
    members: int
    seconds: float
    share: float
    """Of one core that the broker used: near 1 it is saturated."""
    cpu_us: float
    """The broker's CPU time a member, in microseconds; of a while: a second, in microseconds."""
    requests: float
    commands: float
    received: float
    sent: float
    """Each a member; of a while: a second."""
    by_command: dict[str, float]
    span: float = 0.0
    """Seconds from the first member's start to the last one's end: without the set-up of the run."""
    workers_us: float = 0.0
    """The workers' CPU time a member, in microseconds."""

    @property
    def rate(self) -> float:
        """Members a second."""
        return self.members / self.seconds

    @property
    def capacity(self) -> float:
        """Members a second at which one core of the broker is full."""
        return 1e6 / self.cpu_us


def spent(before: Counts, after: Counts, workers: int, slots: int, members: int, seconds: float) -> Spent:
    """What the broker did between two looks, for each member, or for each second when there were none."""
    each = members or seconds
    calls = {name: (count - before.by_command.get(name, 0)) / each for name, count in after.by_command.items()}
    cpu = after.cpu - before.cpu
    return Spent(
        workers=workers,
        slots=slots,
        members=members,
        seconds=seconds,
        share=cpu / (after.clock - before.clock),
        cpu_us=cpu / each * 1e6,
        requests=(after.requests - before.requests) / each,
        commands=(after.commands - before.commands) / each,
        received=(after.received - before.received) / each,
        sent=(after.sent - before.sent) / each,
        by_command={name: rate for name, rate in calls.items() if rate},
    )


class Simulation:
    """Workers that wait for members, and the broker that they share."""

    def __init__(self, broker: Broker, folder: Path, workers: int, slots: int, pids: Sequence[int]) -> None:
        self.broker = broker
        self.folder = folder
        self.workers = workers
        self.slots = slots
        self._pids = pids
        self.store = Store.connect(broker.url)

    def run(self, members: int, timeout: float = 3600.0) -> Spent:
        """Runs an ensemble to its end, its publication included."""
        before, worked = self.broker.counts(), sum(map(cpu_seconds, self._pids))
        begun = time.monotonic()
        run_id = self.publish(members)
        self._wait(run_id, lambda status: status.state.final, timeout)
        found = spent(before, self.broker.counts(), self.workers, self.slots, members, time.monotonic() - begun)
        worked = sum(map(cpu_seconds, self._pids)) - worked
        return replace(found, span=self._span(run_id, members), workers_us=worked / members * 1e6)

    def _span(self, run_id: str, size: int) -> float:
        begun, ended = math.inf, 0.0
        for first in range(0, size, SPAN_BATCH):
            for attempt in self.store.attempts(run_id, range(first, min(first + SPAN_BATCH, size))):
                assert attempt.started is not None
                assert attempt.ended is not None
                begun, ended = min(begun, attempt.started), max(ended, attempt.ended)
        return ended - begun

    def publish(self, members: int) -> str:
        """Writes and publishes a run, as a driver does."""
        run_id = self.write(members)
        messages.publish_setup(self.broker.url, self.store.run(run_id))
        return run_id

    def write(self, members: int) -> str:
        """Writes a run and no message of it."""
        run_id = f"scale-{uuid.uuid4().hex[:8]}"
        path = str(self.folder / run_id)
        entity = EntityRecord(index=0, name="m", kind="Ensemble", path=path, first=0, size=members)
        run = RunRecord(
            run_id=run_id,
            experiment="scale",
            path=path,
            created=time.time(),
            entities=(entity,),
            templates=(TemplateRecord(command=CommandRecord(head=("/bin/true",))),),
        )
        self.store.write_run(run, (MemberRecord(index=i, entity=0, template=0, name=f"m_{i}") for i in range(members)))
        return run_id

    def hold(self, seconds: float) -> Spent:
        """All slots taken, nothing begins or ends: what leases and beats cost."""
        size = self.workers * self.slots
        run_id = self.publish(size)
        self._wait(run_id, lambda status: status.running == size, READY_WITHIN)
        time.sleep(1.0)
        before, begun = self.broker.counts(), time.monotonic()
        time.sleep(seconds)
        return spent(before, self.broker.counts(), self.workers, self.slots, 0, time.monotonic() - begun)

    def _wait(self, run_id: str, done: Callable[[RunStatus], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not done(self.store.status(run_id)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{run_id} did not get there within {timeout:g} s: {self.store.status(run_id)}")
            time.sleep(0.02)


@contextmanager
def simulation(workers: int, slots: int, *, processes: int = 1, seconds: float = 0.0) -> Iterator[Simulation]:
    """A broker of its own and simulated workers, until the end of the block.

    Arguments:
        workers, slots: how many, and how many slots each.
        processes: that the workers are spread over. With two cores or more the broker has the first CPU for itself.
        seconds: that a member "runs".
    """
    cpus = sorted(os.sched_getaffinity(0))
    apart = len(cpus) > 1
    folder = Path(tempfile.mkdtemp(prefix="te-scale-"))
    broker = Broker(folder, cpus[0] if apart else None)
    command = [sys.executable, "-m", "benchmarks.scale.worker", broker.url, str(slots), str(seconds)]
    children = [
        subprocess.Popen(
            [*command, *map(str, range(at, workers, processes))],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for at in range(min(processes, workers))
    ]
    try:
        for child in children:
            if apart:
                os.sched_setaffinity(child.pid, cpus[1:])
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline() != READY:
                raise RuntimeError("the simulated workers of a process ended before they were connected")
        yield Simulation(broker, folder, workers, slots, [child.pid for child in children])
    finally:
        for child in children:
            try:
                child.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        broker.close()
        shutil.rmtree(folder, ignore_errors=True)
