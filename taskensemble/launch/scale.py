"""Allocations that come and go with what waits: the autoscaler behind `taskensemble scale`.

Each allocation is a batch job with one worker that serves all queues but those of entities with batch jobs of their own. Jobs are
submitted here when members wait and no worker has room; they end by themselves when they have been idle. What was submitted is
remembered in the jobs' files, so a scaler that is started again goes on with the jobs that its predecessor left.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskensemble.engine.allocation import BatchRecord
from taskensemble.engine.fit import capacity, lacks
from taskensemble.engine.messages import SERVICE_QUEUE, Publisher
from taskensemble.engine.records import QueueRecord, WorkerRecord
from taskensemble.engine.store import Store
from taskensemble.launch.batch import BatchJob, JobFile, JobPaths, jobs_folder, read_job

logger = logging.getLogger("taskensemble")

PREFIX = "scale-"
UNKNOWN_SECONDS = 3600.0
"""How long a job whose id is not known is believed to wait in the queue."""
SILENT_SECONDS = 30.0
"""A worker that has not been seen for so long has no room to offer."""


@dataclass(frozen=True)
class Demand:
    """What a scaler decides on.

    Attributes:
        lacking: allocations that the waiting members fill who find no room with the workers that there are.
        jobs: allocations that were asked for and have not ended.
        pending: those of them whose worker has not registered yet.
    """

    lacking: float
    jobs: int
    pending: int


def to_submit(demand: Demand, minimum: int, maximum: int) -> int:
    """How many further allocations to ask for."""
    lacking = max(minimum - demand.jobs, math.ceil(demand.lacking) - demand.pending)
    return max(0, min(maximum - demand.jobs, lacking))


def without_room(
    waiting: Mapping[str, int], queues: Sequence[QueueRecord], workers: Sequence[WorkerRecord]
) -> dict[str, int]:
    """How many members of each queue find no room with these workers now.

    Parameters:
        waiting: members that wait, by queue.
    """
    free = {worker.name: worker.free for worker in workers}
    left = {}
    for queue in queues:
        still = waiting.get(queue.name, 0)
        cpus = max(1, queue.resources.cpus * queue.resources.nodes)
        for worker in workers:
            taken = min(still, worker.rooms.get(queue.name, 0), free[worker.name] // cpus)
            free[worker.name] -= taken * cpus
            still -= taken
        if still:
            left[queue.name] = still
    return left


@dataclass
class Scaler:
    """Keeps as many allocations as the waiting members need, within limits.

    Attributes:
        folder: where the jobs' files go.
        minimum, maximum: allocations at least and at most.
        idle: seconds after which an allocation above the minimum ends when nothing waits or runs.
        tags: of the allocations' workers.
        tell: called with a line for each change.
    """

    folder: Path
    broker_url: str
    store_url: str
    batch: BatchRecord
    minimum: int
    maximum: int
    idle: float
    tags: tuple[str, ...] = ()
    tell: Callable[[str], None] = logger.info
    _jobs: dict[str, BatchJob] = field(default_factory=dict)
    _example: WorkerRecord | None = None
    """The worker of one of the allocations: it tells what one holds."""
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._store = Store(self.store_url)
        self._publisher = Publisher(self.broker_url)
        for path in sorted(jobs_folder(self.folder).glob(f"{PREFIX}*.json")):
            job = BatchJob(JobPaths.of(self.folder, path.stem), read_job(path))
            job.adopt()
            self._jobs[path.stem] = job

    @property
    def jobs(self) -> int:
        """Allocations that were asked for and have not ended."""
        return len(self._jobs)

    def step(self) -> int:
        """Look once, and ask for what is lacking; how many allocations there are then.

        Raises:
            AllocationError: the scheduler refuses a job.
        """
        for name, job in list(self._jobs.items()):
            if self._ended(job):
                self.tell(f"The allocation {job.file.native_id} has ended.")
                job.paths.file.unlink(missing_ok=True)
                del self._jobs[name]
        for _ in range(to_submit(self._demand(), self.minimum, self.maximum)):
            self._submit()
        return len(self._jobs)

    def close(self) -> None:
        """Close the connections. The allocations go on, and end when they are idle."""
        self._store.close()
        self._publisher.close()

    def _ended(self, job: BatchJob) -> bool:
        if job.job is not None:
            return job.ended
        # The scaler before this one was killed between submitting the job and noting its id: the job notes it when it starts.
        job.file = read_job(job.paths.file)
        job.adopt()
        return job.job is None and time.time() - job.paths.file.stat().st_mtime > UNKNOWN_SECONDS

    def _demand(self) -> Demand:
        workers = [worker for worker in self._store.workers() if not worker.queue and worker.age < SILENT_SECONDS]
        ours = {name: _worker_of(name, workers) for name in self._jobs}
        example = next((worker for worker in ours.values() if worker is not None), None)
        if example is not None:
            # The next one has all of its time.
            self._example = example.model_copy(update={"left": example.lifetime, "age": 0.0})
        queues = [queue for queue in self._store.queues() if not queue.batch_queue]
        waiting = {queue.name: self._publisher.length(queue.name) for queue in queues}
        left = without_room(waiting, queues, workers)
        # A run's members are published by its setup, which needs a worker first.
        first = float(not workers and self._publisher.length(SERVICE_QUEUE) > 0)
        return Demand(
            lacking=max(
                first, sum(self._allocations(queue, left[queue.name]) for queue in queues if queue.name in left)
            ),
            jobs=len(self._jobs),
            pending=sum(worker is None for worker in ours.values()),
        )

    def _allocations(self, queue: QueueRecord, members: int) -> float:
        """How many allocations so many members of a queue fill; 0 when they could not run there."""
        if self._example is None:
            return 1.0  # until one has shown how large an allocation is, one at a time
        held = capacity(self._example, queue.resources)
        if held:
            return members / held
        if queue.name not in self._told:
            self._told.add(queue.name)
            lacking = lacks([self._example], queue.resources)
            self.tell(
                f"Members of {queue.run} wait for {lacking}; no allocation as --batch describes it could run them."
            )
        return 0.0

    def _submit(self) -> None:
        name = f"{PREFIX}{secrets.token_hex(4)}"
        file = JobFile(
            name=name,
            broker_url=self.broker_url,
            store_url=self.store_url,
            idle=0.0 if len(self._jobs) < self.minimum else self.idle,
            tags=self.tags,
            batch=self.batch,
        )
        job = BatchJob(JobPaths.of(self.folder, name), file, "taskensemble")
        job.submit()
        self._jobs[name] = job
        self.tell(f"Asked for the allocation {job.file.native_id} ({len(self._jobs)} of {self.maximum}).")


def _worker_of(name: str, workers: list[WorkerRecord]) -> WorkerRecord | None:
    return next((worker for worker in workers if worker.name.startswith(f"{name}-")), None)
