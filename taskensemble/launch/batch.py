"""Batch jobs: allocations that a worker of ours runs in, bound to a queue of its own.

Each job belongs to one entity of one run, or to nobody in particular (`taskensemble scale`). Its script has the settings'
headers and preamble and one line: `python -m taskensemble.launch.job <file>`. That file, which its user alone can read, has the
control plane's addresses with their passwords; they appear in no script and no argument list. The job ends when its work does,
and one that is told to end too early asks for its successor itself, as often as `requeue` says (launch/job.py). Here, beside the
driver, a thread watches: for a job that ended too early without a successor it asks for one, or cancels the entity with the
reason when no `requeue` is left; a job whose entity is over is taken out of the queue.

    <folder>/.taskensemble/jobs/<name>.json     what the job must know (0600), and its id in the scheduler
    <folder>/.taskensemble/jobs/<name>.<n>.sh   the script of its n-th submission, beside it what it printed: .out, .err
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import redis

from taskensemble.engine.allocation import BatchRecord
from taskensemble.engine.records import Record, RunRecord
from taskensemble.errors import AllocationError, TaskensembleError
from taskensemble.launch.embedded import FOLDER
from taskensemble.launch.files import private_folder, write_private

if TYPE_CHECKING:
    from taskensemble.engine.store import Store
    from taskensemble.launch.schedulers import SchedulerJob

logger = logging.getLogger("taskensemble")

WATCH_SECONDS = 0.5
SUBMIT_SECONDS = 120.0
"""What a submission takes at most; after that somebody else may try."""
LINGER = 20.0
"""Seconds that a running job has to end by itself once its work is over."""


class JobFile(Record):
    """What a job must know, and what is known of it."""

    name: str
    title: str = ""
    """Name in the scheduler."""
    broker_url: str
    store_url: str
    outlives_driver: bool = False
    """The control plane is not the driver's own: the job may go on without it."""
    queue: str = ""
    """Batch queue that its worker serves alone; empty: all others."""
    run_id: str = ""
    """The job ends when this run's entity has; empty: when it has been idle for `idle` seconds (0: never)."""
    entity: int = 0
    idle: float = 0.0
    tags: tuple[str, ...] = ()
    batch: BatchRecord
    submissions: int = 0
    native_id: str = ""
    """Id of the latest submission in the scheduler."""


@dataclass(frozen=True)
class JobPaths:
    """Where a job keeps its files; nobody else joins these names."""

    folder: Path
    name: str

    @classmethod
    def of(cls, experiment: Path, name: str) -> JobPaths:
        """Those of a job of the experiment in that folder."""
        return cls(jobs_folder(experiment), name)

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.json"

    def script(self, submission: int) -> Path:
        return self.folder / f"{self.name}.{submission}.sh"

    def output(self, submission: int) -> Path:
        return self.folder / f"{self.name}.{submission}.out"

    def error(self, submission: int) -> Path:
        return self.folder / f"{self.name}.{submission}.err"


def jobs_folder(experiment: Path) -> Path:
    """The folder of an experiment's jobs."""
    return experiment.resolve() / FOLDER / "jobs"


def job_script(batch: BatchRecord, paths: JobPaths, submission: int = 1, title: str = "") -> str:
    """The script of a job's n-th submission, as it is submitted.

    Parameters:
        title: the job's name in the scheduler; empty: the name of its files.
    """
    line = shlex.join([sys.executable, "-P", "-m", "taskensemble.launch.job", str(paths.file)])
    body = (
        # Sites that submit with --export=NONE would have srun pass nothing on.
        *(("unset SLURM_EXPORT_ENV",) if batch.scheduler == "slurm" else ()),
        f"exec {line}",
    )
    from taskensemble.launch.schedulers import job_name

    name = job_name(batch.scheduler, title or paths.name)
    return batch.script(name, str(paths.output(submission)), str(paths.error(submission)), body)


def read_job(path: Path) -> JobFile:
    """What a job's file says."""
    return JobFile.model_validate_json(path.read_text(encoding="utf-8"))


@dataclass
class BatchJob:
    """A job that this process submitted, or found."""

    paths: JobPaths
    file: JobFile
    title: str = ""
    job: SchedulerJob | None = None
    over_since: float | None = None
    """Monotonic time since when its work is over."""

    def submit(self) -> None:
        """Write the script and submit it.

        Raises:
            AllocationError: the scheduler refuses.
        """
        from taskensemble.launch import schedulers

        private_folder(self.paths.folder)
        number = self.file.submissions + 1
        self.file = self.file.model_copy(update={"submissions": number, "native_id": ""})
        self._write()
        script = self.paths.script(number)
        script.write_text(job_script(self.file.batch, self.paths, number, self.title), encoding="utf-8")
        self.job = schedulers.submit(self.file.batch.scheduler, self.file.batch.submit, script, self.paths.folder)
        self.file = self.file.model_copy(update={"native_id": self.job.native_id})
        self._write()
        logger.info("Submitted the batch job %s for %s.", self.job.native_id, self.title or self.paths.name)

    def submit_again(self, store: Store, owner: str) -> bool:
        """Submit the job's successor, unless somebody else has, or is about to: both the job itself and a driver may see its end.

        Arguments:
            owner: who asks, of all processes.

        Raises:
            AllocationError: the scheduler refuses; somebody else may try.
        """
        latest = read_job(self.paths.file)
        lock = f"te:submit:{self.paths.name}"
        if latest.submissions > self.file.submissions or not store.take_lock(lock, owner, SUBMIT_SECONDS):
            return False
        try:
            # Who had the lock before may have submitted it meanwhile.
            if read_job(self.paths.file).submissions > self.file.submissions:
                return False
            self.submit()
        finally:
            store.drop_lock(lock, owner)
        return True

    def adopt(self) -> None:
        """Watch the latest submission, which another process made perhaps."""
        from taskensemble.launch import schedulers

        if self.job is None and self.file.native_id:
            self.job = schedulers.attach(self.file.batch.scheduler, self.file.native_id, self.paths.folder)

    def cancel(self) -> None:
        """Take it out of the queue, or end it; quietly when it has ended."""
        if self.job is not None and not self.job.ended:
            try:
                self.job.cancel()
            except AllocationError as error:
                logger.warning("%s", error)

    @property
    def ended(self) -> bool:
        """Whether its latest submission has left the queue."""
        return self.job is None or self.job.ended

    @property
    def output_tail(self) -> str:
        """The last lines that its latest submission printed as errors."""
        try:
            text = self.paths.error(self.file.submissions).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-5:])

    def _write(self) -> None:
        write_private(self.paths.file, self.file.model_dump_json(indent=1))


@dataclass
class BatchJobs:
    """The jobs of one control plane's runs that this process looks after.

    Attributes:
        folder: the experiment's.
        outlives_driver: whether the control plane goes on without this process.
    """

    folder: Path
    broker_url: str
    store_url: str
    outlives_driver: bool = False
    _jobs: dict[str, BatchJob] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closing: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _store: Store | None = None
    _owner: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")

    def submit(self, run: RunRecord, batches: Mapping[str, BatchRecord]) -> None:
        """Submit a job for each batch queue of a run.

        Raises:
            AllocationError: the scheduler refuses one; the others and the run are cancelled again.
        """
        begun: list[BatchJob] = []
        host = urlsplit(self.broker_url).hostname or ""
        if host == "localhost" or host.startswith("127."):
            logger.warning(
                "The control plane listens on %s alone: jobs on other nodes cannot reach it; give Experiment(interface=…) one "
                "that they can, or a broker.",
                host,
            )
        try:
            for queue, batch in batches.items():
                entity = next(entity for entity in run.entities if queue == batch_queue(run.run_id, entity.index))
                file = JobFile(
                    name=queue,
                    title=entity.name,
                    broker_url=self.broker_url,
                    store_url=self.store_url,
                    outlives_driver=self.outlives_driver,
                    queue=queue,
                    run_id=run.run_id,
                    entity=entity.index,
                    batch=batch,
                )
                job = BatchJob(JobPaths.of(self.folder, queue), file, entity.name)
                job.submit()
                begun.append(job)
        except AllocationError:
            for job in begun:
                job.cancel()
            self._cancel(run.run_id, "a batch job of it was refused")
            raise
        self._look_after(begun)

    def adopt(self, run: RunRecord) -> None:
        """Look after the jobs of a run that another process started."""
        found = []
        for entity in run.entities:
            queue = batch_queue(run.run_id, entity.index)
            paths = JobPaths.of(self.folder, queue)
            if queue not in self._jobs and paths.file.exists():
                job = BatchJob(paths, read_job(paths.file), entity.name)
                job.adopt()
                found.append(job)
        self._look_after(found)

    def settle(self, timeout: float = 30.0) -> None:
        """Wait until every job whose work is over has left the queue; what lingers is cancelled."""
        self._look()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self._lock:
                left = [job for job in self._jobs.values() if job.over_since is not None and not job.ended]
            if not left:
                return
            time.sleep(WATCH_SECONDS)

    def close(self, *, cancel: bool) -> None:
        """Stop watching; with `cancel`, end every job first: their control plane is about to go."""
        with self._lock:
            jobs = list(self._jobs.values())
        if cancel:
            for job in jobs:
                job.cancel()
        self._closing.set()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None
        if self._store is not None:
            self._store.close()
            self._store = None

    def _cancel(self, run_id: str, reason: str) -> None:
        from taskensemble.engine.store import Store

        store = Store(self.store_url)
        try:
            store.cancel(run_id, reason=reason)
        finally:
            store.close()

    def _look_after(self, jobs: list[BatchJob]) -> None:
        if not jobs:
            return
        with self._lock:
            self._jobs.update({job.file.name: job for job in jobs})
            if self._thread is None or not self._thread.is_alive():
                self._closing.clear()
                self._thread = threading.Thread(target=self._watch, name="taskensemble-batch-jobs", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            self._look()
            with self._lock:
                if all(job.over_since is not None and job.ended for job in self._jobs.values()):
                    self._thread = None
                    return

    def _look(self) -> None:
        """Look at every job once."""
        with self._lock:
            jobs = list(self._jobs.values())
            if self._store is None:
                from taskensemble.engine.store import Store

                self._store = Store(self.store_url)
            for job in jobs:
                try:
                    self._look_at(job, self._store)
                except (TaskensembleError, OSError, redis.RedisError) as error:
                    logger.warning("Batch job of %s: %s", job.title, error)

    def _look_at(self, job: BatchJob, store: Store) -> None:
        status = store.entity_status(job.file.run_id)[job.file.entity]
        if status.state.final or store.status(job.file.run_id).state.final:
            self._end(job)
        elif job.ended:
            self._again(job, store)

    def _end(self, job: BatchJob) -> None:
        """Its work is over: a job that waits is taken out at once, one that runs gets time to end by itself."""
        now = time.monotonic()
        if job.over_since is None:
            job.over_since = now
            if job.job is not None and job.job.state == "queued":
                job.cancel()
        elif not job.ended and now - job.over_since > LINGER:
            job.cancel()
            job.over_since = now

    def _again(self, job: BatchJob, store: Store) -> None:
        """It has ended before its work."""
        latest = read_job(job.paths.file)
        if latest.submissions > job.file.submissions or (job.job is None and latest.native_id):
            if latest.native_id:
                logger.warning("The batch job of %s has asked for another one, %s.", job.title, latest.native_id)
                job.file, job.job = latest, None
                job.adopt()
            return
        ended = "is unknown" if job.job is None else f"{job.job.native_id} of {job.title} ended ({_ended(job.job)})"
        told = f"The batch job {ended}"
        if job.file.submissions <= job.file.batch.requeue:
            if job.submit_again(store, self._owner):
                logger.warning("%s before its members had; it is submitted again.", told)
            return
        printed = job.output_tail
        reason = f"{told} before its members had; give create_batch_settings a longer time= or requeue="
        logger.warning("%s%s", reason, f"\n{printed}" if printed else "")
        store.cancel(job.file.run_id, job.file.entity, reason=reason)
        job.over_since = time.monotonic()


def batch_queue(run_id: str, entity: int) -> str:
    """Name of the queue that an entity's batch job serves."""
    return f"batch-{run_id}-{entity}"


def _ended(job: SchedulerJob) -> str:
    reason = f", {job.message}" if job.message and job.message not in ("None", "NonZeroExitCode") else ""
    return f"{job.state}{reason}"


def describe(path: Path) -> dict[str, object]:
    """A job's file without its addresses, for printing."""
    known = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in known.items() if not name.endswith("_url")}
