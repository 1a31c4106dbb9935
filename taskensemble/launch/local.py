"""Workers as processes of this machine: beside a driver, or kept by `taskensemble up`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from taskensemble.engine import host
from taskensemble.engine.records import MemberRecord, RunRecord, TemplateRecord
from taskensemble.errors import InputError
from taskensemble.launch.files import private_folder


@dataclass
class LocalWorker:
    """A worker process that this process started."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    begun: float = field(default_factory=time.monotonic)
    """When it was started, on the monotonic clock."""

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def log_tail(self, lines: int = 10) -> str:
        """The last lines that the worker wrote."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def stop(self, timeout: float = 15.0) -> None:
        """End the worker and its members: SIGTERM, and the guard's way when it has not ended after `timeout` seconds."""
        if self.process.poll() is not None:
            return
        # To the worker itself: its guard would tell the members and the worker's own guard at the same moment.
        for pid in _children(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def default_slots() -> int:
    """As many slots as CPUs that this process may use."""
    return host.usable_cpus()


def check_fits(run: RunRecord, members: Iterable[MemberRecord], slots: int | None) -> None:
    """Whether all members could ever run on the worker of this machine, however long they wait.

    Parameters:
        members: of the run, in order
        slots: of the worker; None: as many as cores

    Raises:
        InputError: a member needs more than the worker has, or an entity whose members run together does
    """
    cpus = default_slots() if slots is None else slots
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpus = sum(gpu.strip() not in ("", "-1") for gpu in visible)
    memory = host.usable_memory_mb()
    has = f"the worker that this start brings up has slots={cpus}, {gpus} GPUs (CUDA_VISIBLE_DEVICES) and {memory} MiB"
    way_out = "ask for less, give Experiment(slots=…), or use a broker with workers that have it"
    for template in run.templates:
        wanted = template.resources
        if wanted.cpus > cpus or wanted.gpus > gpus or wanted.memory_mb > memory:
            raise InputError(
                f"resources: a member of {run.entities[_user_of(run, members, template)].name!r} holds cpus={wanted.cpus}, "
                f"gpus={wanted.gpus:g}, memory={wanted.memory_mb} MiB, and {has}; {way_out}."
            )
    for entity in run.entities:
        if not entity.together:
            continue
        needs = [run.templates[member.template].resources for member in members if member.entity == entity.index]
        all_cpus, all_gpus = sum(each.cpus for each in needs), sum(each.gpus for each in needs)
        alone = len(needs) > 1 and any(each.whole_node for each in needs)
        if all_cpus > cpus or all_gpus > gpus or alone:
            whole = ", one of them a whole node" if alone else ""
            raise InputError(
                f"together=True: the {len(needs)} members of {entity.name!r} hold {all_cpus} CPUs and {all_gpus:g} GPUs "
                f"at the same time{whole}, but {has}; {way_out}."
            )


def _user_of(run: RunRecord, members: Iterable[MemberRecord], template: TemplateRecord) -> int:
    """Index of the first entity that has a member of a template."""
    return next(member.entity for member in members if run.templates[member.template] is template)


def worker_command(
    slots: int | None = None,
    name: str | None = None,
    queue: str | None = None,
    drain: float | None = None,
    tags: Iterable[str] = (),
) -> list[str]:
    """Command line of a worker. `-P` keeps the current folder off its `sys.path`: a `workers.py` there must not shadow ours."""
    command = [sys.executable, "-P", "-m", "workers.app"]
    if slots is not None:
        command += ["--slots", str(slots)]
    if name is not None:
        command += ["--name", name]
    if queue is not None:
        command += ["--queue", queue]
    if drain is not None:
        command += ["--drain", f"{drain:g}"]
    for tag in tags:
        command += ["--tag", tag]
    return command


def worker_environment(broker_url: str, store_url: str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of a worker: this process's own, with the control plane's addresses."""
    environment = dict(os.environ if base is None else base)
    environment["TASKENSEMBLE_BROKER_URL"] = broker_url
    environment["TASKENSEMBLE_STORE_URL"] = store_url
    return environment


def allocation_environment(broker_url: str, store_url: str) -> dict[str, str]:
    """Environment of a worker whose slots are the whole allocation that this process is in."""
    return worker_environment(broker_url, store_url) | {"TASKENSEMBLE_ALLOCATION": "1"}


def start(
    broker_url: str,
    store_url: str,
    logs: Path,
    *,
    name: str,
    slots: int | None = None,
    kept: bool = False,
    cwd: Path | None = None,
    allocation: bool = False,
) -> LocalWorker:
    """Start a worker on this machine.

    Parameters:
        broker_url, store_url: the control plane's addresses, passwords included; they travel in the environment, not in argv
        logs: folder for `<name>.log`
        name: the worker's name, unique in the control plane
        slots: members at a time; None: as many as cores
        kept: let it go on when this process ends; else it ends with it, however it ends, and its members with it
        cwd: its working folder; None: this process's
        allocation: its slots are the whole allocation that this process is in
    """
    from taskensemble.guard import tie

    private_folder(logs)
    log = logs / f"{name}.log"
    # Its owner has stopped what it wanted stopped, or is dead: nobody waits for members that go on.
    drain = None if kept else 0.0
    if allocation:
        argv = worker_command(name=name, drain=drain)
        environment = allocation_environment(broker_url, store_url)
    else:
        argv = worker_command(default_slots() if slots is None else slots, name, drain=drain)
        environment = worker_environment(broker_url, store_url)
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        if kept:
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        else:
            process = tie(argv, env=environment, cwd=cwd, stdout=output, stderr=output, grace=5.0)
    return LocalWorker(name=name, process=process, log=log)
