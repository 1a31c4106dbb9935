"""Schedulers: submit a script, watch its job, cancel it. psij-python speaks to Slurm, PBS and LSF; Grid Engine is added here.

The scripts are our own (`BatchRecord.script`), so that a preview shows exactly what is submitted. psij polls the queue; what it
would give up on (an unknown reason, a query that fails now and then) is read mildly here.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import signal
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree

from psij import Job, JobExecutor, JobSpec, JobState, JobStatus
from psij.exceptions import SubmitException
from psij.executors.batch.batch_scheduler_executor import (
    BatchSchedulerExecutor,
    BatchSchedulerExecutorConfig,
    InvalidJobStateError,
)
from psij.executors.batch.lsf import LsfJobExecutor
from psij.executors.batch.pbs import PBSJobExecutor
from psij.executors.batch.slurm import SlurmJobExecutor

from taskensemble.errors import AllocationError

POLL_SECONDS = 2
"""psij's own interval is 30 s: too long to notice that a job has ended."""
QUERY_FAILURES = 30
"""Failed queries in a row that a job is believed to survive: schedulers are restarted."""


class _OwnScript:
    """Submits the script that is the job's executable, with the command that its settings name."""

    def _run_command(self, cmd: list[str]) -> str:
        """psij would give up all jobs when a command cannot be run; a login node short of processes says nothing of them."""
        try:
            return str(super()._run_command(cmd))  # type: ignore[misc]
        except OSError as error:
            raise subprocess.CalledProcessError(1, cmd, output=f"{cmd[0]} cannot be run: {error}") from error

    def generate_submit_script(self, job: Job, _context: dict[str, object], submit_file: IO[str]) -> None:
        assert job.spec is not None
        submit_file.write(Path(str(job.spec.executable)).read_text(encoding="utf-8"))

    def get_submit_command(self, job: Job, submit_file_path: Path) -> list[str]:
        assert job.spec is not None
        return [*job.spec.arguments, str(submit_file_path.absolute())]


class SlurmScheduler(_OwnScript, SlurmJobExecutor):  # type: ignore[misc]
    """Slurm, through sbatch, squeue and scancel."""

    _NAME_, _VERSION_ = "slurm", "1"

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        """States by job id. Reasons are free text, and unknown states of newer versions count as queued."""
        if exit_code:
            raise SubmitException(f"squeue exited {exit_code}: {out}")
        rows = (line.split(maxsplit=2) for line in out.splitlines()[1:] if line.strip())
        return {
            row[0]: JobStatus(self._STATE_MAP.get(row[1], JobState.QUEUED), message=row[2] if len(row) > 2 else None)
            for row in rows
        }


class PbsScheduler(_OwnScript, PBSJobExecutor):  # type: ignore[misc]
    """PBS, through qsub, qstat and qdel."""

    _NAME_, _VERSION_ = "pbs", "1"

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        """States by job id. How finished ones ended is in their exit status: 256 and a signal's number for those killed."""
        try:
            jobs = json.loads(out).get("Jobs", {})
        except ValueError:
            raise SubmitException(f"qstat exited {exit_code}: {out}") from None
        return {job_id: JobStatus(_pbs_state(job), message=job.get("comment")) for job_id, job in jobs.items()}

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        """A job that has ended meanwhile needs no cancelling."""
        if "has finished" in out or "Unknown Job" in out:
            raise InvalidJobStateError
        raise SubmitException(f"qdel exited {exit_code}: {out}")


class LsfScheduler(_OwnScript, LsfJobExecutor):  # type: ignore[misc]
    """LSF, through bsub, bjobs and bkill. `bsub` reads the directives of a script only from its standard input."""

    _NAME_, _VERSION_ = "lsf", "1"

    def get_submit_command(self, job: Job, submit_file_path: Path) -> list[str]:
        return [
            "/bin/sh",
            "-c",
            'script=$1; shift; exec "$@" < "$script"',
            "sh",
            str(submit_file_path),
            *job.spec.arguments,
        ]

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        """States by job id, with the first reason that LSF gives."""
        if exit_code:
            raise SubmitException(f"bjobs exited {exit_code}: {out}")
        reasons = ("EXIT_REASON", "KILL_REASON", "SUSPEND_REASON")
        return {
            entry["JOBID"]: JobStatus(
                self._STATE_MAP.get(entry["STAT"], JobState.QUEUED),
                message=next((entry[name] for name in reasons if entry.get(name)), None),
            )
            for entry in json.loads(out)["RECORDS"]
            if "ERROR" not in entry
        }


class SgeScheduler(_OwnScript, BatchSchedulerExecutor):  # type: ignore[misc]
    """Grid Engine, through qsub, qstat -xml and qdel."""

    _NAME_, _VERSION_ = "sge", "1"

    def job_id_from_submit_output(self, out: str) -> str:
        """The id in `Your job 4711 ("plate") has been submitted`."""
        found = re.search(r"[Yy]our job(?:-array)? (\d+)", out)
        if found is None:
            raise SubmitException(f"qsub answered {out!r}, which names no job")
        return found[1]

    def get_cancel_command(self, native_id: str) -> list[str]:
        return ["qdel", native_id]

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        if "does not exist" in out:
            raise InvalidJobStateError
        raise SubmitException(f"qdel exited {exit_code}: {out}")

    def get_status_command(self, _native_ids: Collection[str]) -> list[str]:
        return ["qstat", "-xml"]

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        if exit_code:
            raise SubmitException(f"qstat exited {exit_code}: {out}")
        return {job_id: _sge_status(job_id, letters) for job_id, letters in parse_qstat_xml(out).items()}

    def get_list_command(self) -> list[str]:
        return ["qstat", "-xml"]

    def parse_list_output(self, out: str) -> list[str]:
        return list(parse_qstat_xml(out))


_EXECUTORS: dict[str, type[JobExecutor]] = {
    "slurm": SlurmScheduler,
    "pbs": PbsScheduler,
    "lsf": LsfScheduler,
    "sge": SgeScheduler,
}


@dataclass(frozen=True)
class SchedulerJob:
    """A job in a scheduler's queue, as this process watches it."""

    native_id: str
    job: Job

    @property
    def state(self) -> str:
        """`queued`, `active`, or how it ended: `completed`, `failed`, `canceled`."""
        state = self.job.status.state
        if state.final:
            return str(state.name).lower()
        return "active" if state == JobState.ACTIVE else "queued"

    @property
    def ended(self) -> bool:
        """Whether it has left the queue."""
        return bool(self.job.status.state.final)

    @property
    def message(self) -> str:
        """What the scheduler says of its state."""
        return str(self.job.status.message or "").strip()

    def cancel(self) -> None:
        """Take it out of the queue, or end it; one that has ended is left alone.

        Raises:
            AllocationError: the scheduler refuses.
        """
        try:
            self.job.executor.cancel(self.job)
        except SubmitException as error:
            raise AllocationError(f"The batch job {self.native_id} cannot be cancelled: {error}") from error


def job_name(scheduler: str, name: str) -> str:
    """A name as the scheduler takes it: PBS and Grid Engine refuse one that begins with a digit, and most punctuation."""
    if scheduler not in ("pbs", "sge"):
        return name
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return plain if plain[0].isalpha() else f"j{plain}"


def submit(scheduler: str, command: str, script: Path, folder: Path) -> SchedulerJob:
    """Submit a script.

    Raises:
        AllocationError: the scheduler refuses it, or its command is missing; the message has what it said.
    """
    job = Job(JobSpec(executable=str(script), arguments=command.split()))
    try:
        _executor(scheduler, folder).submit(job)
    except (SubmitException, OSError) as error:
        raise AllocationError(f"{command} {script} was refused: {str(error).strip()}") from None
    return SchedulerJob(str(job.native_id), job)


def attach(scheduler: str, native_id: str, folder: Path) -> SchedulerJob:
    """Watch a job that was submitted earlier, by another process perhaps."""
    job = Job(JobSpec(executable="/bin/true"))
    _executor(scheduler, folder).attach(job, native_id)
    return SchedulerJob(native_id, job)


def parse_qstat_xml(text: str) -> dict[str, str]:
    """Job id → state letters in what `qstat -xml` prints.

    Raises:
        AllocationError: it is no XML.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise AllocationError(f"qstat -xml printed no XML ({error}): {text[:200]!r}") from error
    return {
        job.findtext("JB_job_number", "").strip(): job.findtext("state", "").strip() for job in root.iter("job_list")
    }


def _pbs_state(job: dict[str, Any]) -> JobState:
    letter = job.get("job_state", "")
    if letter not in ("F", "X"):
        return JobState.ACTIVE if letter in ("R", "E", "B") else JobState.QUEUED
    status = int(job.get("Exit_status", 0))
    if status in (256 + signal.SIGTERM, 256 + signal.SIGKILL):
        return JobState.CANCELED
    return JobState.FAILED if status else JobState.COMPLETED


def _sge_status(job_id: str, letters: str) -> JobStatus:
    if "E" in letters:
        # It stays in the queue until somebody clears the error.
        return JobStatus(JobState.FAILED, message=f"state {letters}: `qstat -j {job_id}` says why")
    return JobStatus(JobState.ACTIVE if "r" in letters or "t" in letters else JobState.QUEUED)


def _brief(record: logging.LogRecord) -> bool:
    """psij writes a traceback each time that a scheduler does not answer."""
    if record.levelno == logging.WARNING and str(record.msg).startswith("Polling error"):
        lines = [line for line in record.getMessage().splitlines() if line.strip()]
        record.msg, record.args = "The scheduler does not answer and is asked again: %s", (lines[-1].strip(),)
    return True


logging.getLogger("psij.executors.batch.batch_scheduler_executor").addFilter(_brief)


@functools.cache
def _executor(scheduler: str, folder: Path) -> Any:
    config = BatchSchedulerExecutorConfig(
        work_directory=folder,
        queue_polling_interval=POLL_SECONDS,
        initial_queue_polling_delay=1,
        queue_polling_error_threshold=QUERY_FAILURES,
        keep_files=True,
    )
    executor: type[Any] = _EXECUTORS[scheduler]
    return executor(url=None, config=config)


def query(*command: str) -> str:
    """What a scheduler's command prints; for jobs that this process does not watch.

    Raises:
        AllocationError: it is missing or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AllocationError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise AllocationError(
            f"{' '.join(command)} exited {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout
