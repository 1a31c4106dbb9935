"""What a batch job runs: `python -P -m taskensemble.launch.job <file>`, on the first node of its allocation.

It starts one worker whose slots are the whole allocation, and ends when the work is over: when the entity it belongs to has
ended, or, for a job of `taskensemble scale`, when nothing has waited or run for so long. Told to end (walltime, scancel,
preemption) it submits its successor, if `requeue` has one left and the control plane goes on without a driver, and the worker
gives back what it runs, so that the other allocation can go on with it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import redis

from taskensemble.engine.allocation import WALLTIME, from_environment
from taskensemble.engine.fit import capacity, time_left
from taskensemble.engine.messages import SERVICE_QUEUE
from taskensemble.engine.records import WorkerRecord
from taskensemble.engine.store import Store
from taskensemble.errors import ControlPlaneError, RunNotFoundError, TaskensembleError
from taskensemble.launch.batch import BatchJob, JobFile, JobPaths, read_job
from taskensemble.launch.files import write_private
from taskensemble.launch.local import allocation_environment, worker_command

logger = logging.getLogger("taskensemble.job")

LOOK_SECONDS = 0.5
GONE_SECONDS = 300.0
"""Seconds after which a control plane that does not answer is believed to be gone."""
_TOLD_BY = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""LSF sends SIGUSR2 at a job's run limit, Grid Engine with `-notify`; Slurm what `--signal=B:…` names."""
STOP_SECONDS = 60.0
"""Seconds that a worker has to give back what it runs."""


def main(argv: list[str]) -> int:
    """Run the worker until the work is over; its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    file = read_job(Path(argv[0]))
    told = _told_to_end()
    if not file.native_id:
        _note_id(Path(argv[0]), file)
    try:
        store = Store.connect(file.store_url)
    except ControlPlaneError as error:
        logger.error("%s It must be reachable from this node: Experiment(interface=…) or broker=….", error)
        return 1
    name = f"{file.name}-{file.submissions}"
    command = worker_command(name=name, queue=file.queue or None, drain=0.0, tags=file.tags)
    environment = allocation_environment(file.broker_url, file.store_url)
    if file.batch.walltime is not None:
        environment[WALLTIME] = f"{file.batch.walltime:g}"
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    over = _Idle(file, name) if not file.run_id else _Entity(file)
    spent = _Spent(file, name) if file.run_id else _never
    seen = time.monotonic()
    too_late = False
    while worker.poll() is None and not told():
        try:
            too_late = spent(store)
            if too_late or over(store):
                break
            seen = time.monotonic()
        except (redis.RedisError, OSError) as error:
            # A control plane that restarts costs nothing; one that is gone will give this job no more work.
            if time.monotonic() - seen > GONE_SECONDS:
                logger.error("The control plane has been away for %g s: %s", GONE_SECONDS, error)
                break
        time.sleep(LOOK_SECONDS)
    code = worker.poll()
    # A job's end is told to its worker too, which may be done with it before this process looks again.
    if code is not None and not told():
        logger.error("The worker %s ended by itself with status %d.", name, code)
        return 1
    worker.send_signal(signal.SIGTERM)
    if told() or too_late:
        _submit_successor(Path(argv[0]), store)
    _stop(worker)
    return 0


def _submit_successor(path: Path, store: Store) -> None:
    """Ask for another allocation, before this one's last seconds are over: its members may take longer than that to end."""
    file = read_job(path)
    if not (file.run_id and file.outlives_driver and file.submissions <= file.batch.requeue):
        return
    for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
        # What describes this job would limit the steps of the next one.
        del os.environ[name]
    try:
        if _Entity(file)(store):
            return
        job = BatchJob(JobPaths(path.parent, path.stem), file, file.title)
        if job.submit_again(store, f"{socket.gethostname()}:{os.getpid()}"):
            logger.warning("This job ends before its members have; the job %s goes on with them.", job.file.native_id)
    except (TaskensembleError, redis.RedisError, OSError) as error:
        logger.error("No further job could be submitted from here: %s. A driver that reconnects asks for one.", error)


def _note_id(path: Path, file: JobFile) -> None:
    """Note the job's id for who submitted it, should they have died before they could."""
    allocation = from_environment(os.environ)
    if allocation is not None:
        write_private(path, file.model_copy(update={"native_id": allocation.job_id}).model_dump_json(indent=1))


class _Idle:
    """Whether nothing has waited or run for so long; a limit of 0: never."""

    def __init__(self, file: JobFile, worker: str) -> None:
        self._limit = file.idle
        self._worker = worker
        self._since = time.monotonic()
        self._publisher = _publisher(file)
        self._lasts = _Lasting()

    def __call__(self, store: Store) -> bool:
        ours = next((worker for worker in store.workers() if worker.name == self._worker), None)
        # A worker that has not registered yet had no chance to take anything; what it could never take is none of its work.
        if ours is None or ours.running or any(map(self._publisher, [SERVICE_QUEUE, *_takes(store, ours)])):
            self._since = time.monotonic()
        return self._lasts(ours, 0 < self._limit < time.monotonic() - self._since)


def _takes(store: Store, worker: WorkerRecord) -> list[str]:
    """The queues of members that the worker could run, were it idle."""
    return [
        queue.name
        for queue in store.queues()
        if queue.batch_queue == worker.queue and capacity(worker, queue.resources) > 0
    ]


class _Lasting:
    """Whether something that a worker's record tells holds now and did at an earlier beat: the latest may be older than what the
    worker has just begun."""

    def __init__(self) -> None:
        self._beat: int | None = None

    def __call__(self, worker: WorkerRecord | None, holds: bool) -> bool:
        if worker is None or not holds:
            self._beat = None
            return False
        if self._beat is None:
            self._beat = worker.beat
        return worker.beat != self._beat


class _Spent:
    """Whether too little of the job's time is left for whatever of its entity waits, and nothing runs."""

    def __init__(self, file: JobFile, worker: str) -> None:
        self._worker = worker
        self._queue = file.queue
        self._length = _publisher(file)
        self._lasts = _Lasting()

    def __call__(self, store: Store) -> bool:
        ours = next((worker for worker in store.workers() if worker.name == self._worker), None)
        queues = [queue for queue in store.queues() if queue.batch_queue == self._queue and self._length(queue.name)]
        left = 0.0 if ours is None else time_left(ours)
        late = bool(queues) and all(queue.resources.time > left for queue in queues)
        return self._lasts(ours, late and ours is not None and not ours.running)


def _never(_store: Store) -> bool:
    return False


def _publisher(file: JobFile) -> Callable[[str], int]:
    from taskensemble.engine.messages import Publisher

    return Publisher(file.broker_url).length


class _Entity:
    """Whether the job's entity has ended."""

    def __init__(self, file: JobFile) -> None:
        self._file = file

    def __call__(self, store: Store) -> bool:
        try:
            if store.status(self._file.run_id).state.final:
                return True
            return store.entity_status(self._file.run_id)[self._file.entity].state.final
        except RunNotFoundError:
            return True


def _told_to_end() -> Callable[[], bool]:
    told: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    for number in _TOLD_BY:
        signal.signal(number, note)
    return lambda: bool(told)


def _stop(worker: subprocess.Popen[bytes]) -> None:
    try:
        worker.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
