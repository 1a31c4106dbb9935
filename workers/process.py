"""One attempt of a member: its command line, its environment, and what its end means."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskensemble.engine import signing
from taskensemble.engine.allocation import AllocationRecord
from taskensemble.engine.host import start_time
from taskensemble.engine.records import DatabaseAddressRecord, MemberRecord, RunRecord, TemplateRecord, WorkerRecord
from taskensemble.errors import InputError
from taskensemble.generation import keep_outputs, make_folder
from taskensemble.guard import Ended, NotStarted, Stage, Why
from workers.allocation import GPU_VARIABLES, THREAD_LIMITS, Placement, launch_line
from workers.slots import Slot

_OWN = ("TASKENSEMBLE_BROKER_URL", "TASKENSEMBLE_STORE_URL", signing.VARIABLE, "CELERY_CUSTOM_WORKER_POOL")


@dataclass
class Attempt:
    """One execution of a member on this worker, from the message to the answer of the store."""

    id: int
    """Number of the attempt on this worker: the guard's name for it."""
    run_id: str
    index: int
    entity: int
    token: str
    request: Any
    """Celery's request."""
    queue: str
    slot: Slot
    node: str = ""
    """Where it runs, as its record says it: the worker's host, or the nodes of its placement in an allocation."""
    number: int = 0
    failures: int = 0
    """Attempts that failed before this one."""
    run: RunRecord | None = None
    member: MemberRecord | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values of its template's secret variables."""
    folder: str = ""
    """Where it runs, once that has been made."""
    pid: int = 0
    armed: bool = False
    """It holds its slot and waits for the others of its entity."""
    go: bool = False
    """They are all there."""
    accepted: bool = False
    spawned: bool = False
    over: bool = False
    """Its guard has said how it ended, or that it could not start."""
    cancelled: str = ""
    """Why it is to end, once it is to end."""
    lost: str = ""
    """Why it is no longer this worker's, or goes back to the queue."""
    job_ended: str = ""
    """Why its end is not its own: the scheduler's job ended under it."""
    begun: float = 0.0
    """Monotonic time of the claim."""
    databases: dict[str, DatabaseAddressRecord] = field(default_factory=dict)
    """Where its databases answer, by identifier."""
    closers: list[Any] = field(default_factory=list)
    """Called when it has ended: what was started for it alone is stopped."""

    @property
    def template(self) -> TemplateRecord:
        """How it is run."""
        assert self.run is not None
        assert self.member is not None
        return self.run.templates[self.member.template]


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, in the words of store.lua's `finish`."""

    letter: str
    returncode: int | None
    reason: str
    ran: float = 0.0
    retry_delay: float | None = None


def prepare_folder(attempt: Attempt) -> str:
    """Makes the member's folder with its files, keeps earlier outputs, and says where it is.

    Raises:
        OSError, TaskensembleError: what generation raises.
    """
    run, member = attempt.run, attempt.member
    assert run is not None
    assert member is not None
    template = attempt.template
    for name in (f"{member.name}.out", *template.command.files):
        if "/" in name or name in ("", ".", ".."):
            raise InputError(f"{name!r} would be outside of the member's folder; give a name without a path")
    folder, new = make_folder(run, run.entities[member.entity], template, member, run.overwrite)
    for name, text in template.command.files.items():
        Path(folder, name).write_text(text)
    if not new or template.files.copy_ or template.files.symlink or template.files.configure:
        keep_outputs(folder, member.name, run=run)
    return folder


def drop_outputs(folder: str, name: str, *, completed: bool) -> None:
    """Deletes the outputs of a member that keeps them only for failures: those of a completed one, and empty ones of any."""
    for file in (Path(folder, f"{name}.out"), Path(folder, f"{name}.err")):
        with suppress(FileNotFoundError):
            if completed or not file.stat().st_size:
                file.unlink()


def command_line(template: TemplateRecord, member: MemberRecord, attempt: int) -> list[str]:
    """A member's command line.

    Arguments:
        attempt: from the second on, `restart_args` replace the member's own arguments.
    """
    command = template.command
    own = member.args
    if attempt > 1 and template.policy.restart_args is not None:
        own = template.policy.restart_args
    return [*command.head, *own, *command.tail]


def placed_line(
    attempt: Attempt, allocation: AllocationRecord | None, extra: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """An attempt's command line and environment on its slot: in an allocation, on the nodes that it holds there.

    Arguments:
        extra: what is this attempt's own of the environment.
    """
    template = attempt.template
    assert attempt.member is not None
    argv = command_line(template, attempt.member, attempt.number)
    if allocation is None or not isinstance(attempt.slot, Placement):
        return argv, dict(extra)
    argv, added = launch_line(
        template.command,
        argv,
        attempt.slot,
        allocation,
        attempt_id=attempt.token,
        exported=[*extra, *template.secrets, *(name for name, value in template.env.items() if value is not None)],
        node_cpus=sorted(os.sched_getaffinity(0)),
    )
    return argv, {**{name: value for name, value in added.items() if name not in template.env}, **extra}


def base_environment(
    worker: Mapping[str, str], template: TemplateRecord, secrets: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What all members of a template have in common: the worker's environment, then the template's, then its secrets."""
    environment = {name: value for name, value in worker.items() if name not in _OWN}
    for name, value in template.env.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return {**environment, **(secrets or {})}


_PATIENCE = "10000"
"""Milliseconds that smartredis waits for an answer. After its own default, 250, it gives the answer up and sends the command
again, so that a model that takes longer would run again and again."""


def member_environment(
    attempt: Attempt, databases: Mapping[str, DatabaseAddressRecord], slot_numbers_are_real: bool
) -> dict[str, str]:
    """What is this attempt's own: databases, key prefixes, CPUs, GPUs and who it is.

    Arguments:
        databases: where the databases of its template answer, by identifier.

    Raises:
        KeyError: a database that it needs is not running.
    """
    member, template = attempt.member, attempt.template
    assert member is not None
    environment: dict[str, str] = {
        "TASKENSEMBLE_RUN_ID": attempt.run_id,
        "TASKENSEMBLE_MEMBER": member.name,
        "TASKENSEMBLE_ATTEMPT": str(attempt.number),
        "TASKENSEMBLE_ATTEMPT_ID": attempt.token,
    }
    environment.update(database_environment(template, member.name, databases))
    for suffix in ("", *(f"_{use.suffix}" for use in template.databases if use.suffix)):
        name = f"SR_SOCKET_TIMEOUT{suffix}"
        if template.databases and name not in template.env and name not in os.environ:
            environment[name] = _PATIENCE
    if isinstance(attempt.slot, Placement):
        return environment
    if slot_numbers_are_real or attempt.slot.gpus:
        for name in THREAD_LIMITS:
            if name not in template.env:
                environment[name] = str(len(attempt.slot.cpus))
    if attempt.slot.gpus:
        environment |= dict.fromkeys(GPU_VARIABLES, ",".join(gpu for gpu, _ in attempt.slot.gpus))
    elif attempt.slot.blind:
        environment |= {name: "" for name in GPU_VARIABLES if name not in template.env}
    return environment


def database_environment(
    template: TemplateRecord, name: str, databases: Mapping[str, DatabaseAddressRecord]
) -> dict[str, str]:
    """SSDB, SR_DB_TYPE, SSKEYIN and SSKEYOUT as SmartRedis clients read them, with and without suffix."""
    environment: dict[str, str] = {}
    incoming = ",".join(template.incoming) if template.incoming else (name if template.key_prefixing else "")
    for use in template.databases:
        suffix = f"_{use.suffix}" if use.suffix else ""
        address = databases[use.identifier]
        environment[f"SSDB{suffix}"] = ",".join(address.addresses)
        environment[f"SR_DB_TYPE{suffix}"] = "Clustered" if address.cluster else "Standalone"
        if incoming:
            environment[f"SSKEYIN{suffix}"] = incoming
        if template.key_prefixing:
            environment[f"SSKEYOUT{suffix}"] = name
    if incoming:
        environment.setdefault("SSKEYIN", incoming)
    if template.key_prefixing:
        environment.setdefault("SSKEYOUT", name)
    return environment


def outcome_of(attempt: Attempt, report: Ended | NotStarted, folder: str) -> Outcome:
    """What an attempt's end means: completed, failed (with or without a retry), cancelled, or lost. What ended by itself before
    it could be told to has ended so."""
    assert attempt.member is not None
    if isinstance(report, NotStarted):
        if report.stage is Stage.REFUSED:
            return Outcome("l", None, "the worker's guard refused it: its lease was overdue")
        return _failed(attempt, None, _not_started(attempt, report), 0.0)
    code = report.returncode
    if attempt.job_ended or (attempt.lost and report.why is not Why.ITSELF):
        return Outcome("l", code, attempt.job_ended or attempt.lost, report.ran)
    if report.why is Why.SILENCE:
        return Outcome("l", code, "its worker could not renew its lease", report.ran)
    if attempt.cancelled and report.why is not Why.ITSELF:
        return Outcome("x", code, attempt.cancelled, report.ran)
    policy = attempt.template.policy
    if report.why is Why.WALLTIME:
        return _failed(attempt, code, f"walltime of {policy.walltime:g} s is over", report.ran)
    if report.why is Why.MEMORY:
        limit = attempt.template.resources.memory_mb
        return _failed(attempt, code, f"used more than its {limit} MiB of memory", report.ran)
    if code == 0:
        return Outcome("c", 0, "", report.ran)
    what = f"exit status {code}" if code > 0 else f"killed by {_signal_name(-code)}"
    return _failed(attempt, code, f"{what}; see {folder}/{attempt.member.name}.err", report.ran)


def _failed(attempt: Attempt, code: int | None, reason: str, ran: float) -> Outcome:
    policy = attempt.template.policy
    delay = None
    if attempt.failures < policy.retries and (policy.retry_on is None or code in policy.retry_on):
        delay = policy.retry_delay
    return Outcome("f", code, reason, ran, delay)


def _not_started(attempt: Attempt, report: NotStarted) -> str:
    why = os.strerror(report.errno)
    if report.stage is Stage.PROGRAM:
        return f"{attempt.template.command.head[0]} could not be started: {why}"
    if report.stage is Stage.FOLDER:
        return f"its folder cannot be entered: {why}"
    if report.stage is Stage.OUTPUT:
        return f"its output files cannot be opened: {why}"
    return f"no process could be started: {why}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def token_prefix(worker: WorkerRecord) -> str:
    """What the tokens of all attempts of one worker process begin with, and of no other's."""
    return f"{worker.name}:{worker.pid}.{worker.pid_start}:"


def epitaph(worker: WorkerRecord) -> list[str]:
    """Command that a worker's guard runs when the worker has died: it gives the worker's attempts back at once."""
    return [sys.executable, "-P", "-m", "workers.epitaph", worker.name, token_prefix(worker)]


def end_trees(tokens: Collection[str], timeout: float = 30.0) -> None:
    """Kills every process of this machine that carries one of these attempts in its environment or its mark, and waits until
    none is left."""
    deadline = time.monotonic() + timeout
    while tokens and (found := _carriers(tokens)):
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.01)


def reap(attempt: Attempt) -> Ended | None:
    """How an attempt's program ended that was its guard's child and, the guard being dead, is this process's; None: it runs, or
    nobody knows."""
    if not attempt.pid:
        return None
    with suppress(ChildProcessError):
        found = os.waitid(os.P_PID, attempt.pid, os.WEXITED | os.WNOHANG)
        if found is not None:
            code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            return Ended(attempt.id, attempt.pid, code, Why.ITSELF, time.monotonic() - attempt.begun, 0.0, 0.0, 0)
    return None


_MARKED = 10
"""RLIMIT_LOCKS of Linux: guard.c says why."""


def mark_of(entry: bytes) -> int:
    """The mark that a guard gives to all that an attempt starts, from `TASKENSEMBLE_ATTEMPT_ID=<token>`: as in guard.c."""
    mark = 14695981039346656037
    for byte in entry:
        mark = (mark ^ byte) * 1099511628211 & (1 << 64) - 1
    return mark >> 1


def _carriers(tokens: Collection[str]) -> list[int]:
    entries = {f"TASKENSEMBLE_ATTEMPT_ID={token}".encode() for token in tokens}
    marks = set(map(mark_of, entries))
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                carries = resource.prlimit(int(name), _MARKED)[0] in marks or not entries.isdisjoint(
                    Path("/proc", name, "environ").read_bytes().split(b"\0")
                )
                # A zombie's mark can be read for as long as nobody has asked for its exit status.
                if carries and start_time(int(name)):
                    found.append(int(name))
    return found


_CPU_LOCKS: list[int] = []


def lock_cpus(usable: Sequence[int], count: int) -> tuple[int, ...]:
    """CPUs that this worker alone gives to members, held by file locks until it ends; empty when there are not enough.

    Two workers of one user on one node never pin members to the same CPU: the second finds the locks taken.
    """
    folder = Path(tempfile.gettempdir(), f"taskensemble-{os.getuid()}-cpus")
    taken: list[tuple[int, int]] = []
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.getuid():  # of a link that somebody has laid, not of what it leads to
            return ()
        for cpu in usable:
            if len(taken) == count:
                break
            descriptor = os.open(folder / str(cpu), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken.append((cpu, descriptor))
            except OSError:
                os.close(descriptor)
    if len(taken) < count:
        for _, descriptor in taken:
            os.close(descriptor)
        return ()
    _CPU_LOCKS.extend(descriptor for _, descriptor in taken)
    return tuple(cpu for cpu, _ in taken)


def become_subreaper() -> None:
    """Members of a guard that has died become children of this process, which ends them."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
