"""Databases on a cluster: on a node of its own in the driver's allocation, or in a batch job of its own.

The database's servers and their supervisor are started there by `python -P -m taskensemble.launch.database <file>`, which then
writes where they answer and stays until they end: `Experiment.stop` shuts the servers down, a walltime or a dead driver ends the
step with everything in it. In an allocation the node is taken from the members first.

    <folder>/<name>.host.json      what is to be started (0600)
    <folder>/<name>.address.json   where it answers, once it does
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from taskensemble.database import DatabaseOptions, is_alive, read_record, start_database, stop_database, write_record
from taskensemble.engine.allocation import AllocationNode, AllocationRecord, BatchRecord
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.errors import DatabaseError, InputError, TaskensembleError
from taskensemble.launch.files import write_private

if TYPE_CHECKING:
    from taskensemble.launch.schedulers import SchedulerJob

logger = logging.getLogger("taskensemble")

STEP_SECONDS = 300.0
"""How long a step may wait for its node and start its servers."""
STOP_SECONDS = 60.0


class Host(Protocol):
    """Where a database's servers run: a step or a job."""

    def ended(self) -> str | None:
        """Why it has ended; None: it has not."""

    def end(self) -> None:
        """End it, and wait until it has."""


@dataclass(frozen=True)
class HostedDatabase:
    """A database on another node."""

    record: DatabaseAddressRecord
    host: Host

    def stop(self) -> None:
        """Shut the servers down and let go of their node."""
        stop_database(self.record)
        self.host.end()


@dataclass(frozen=True)
class DatabasePaths:
    """Where a hosted database keeps its files; nobody else joins these names."""

    folder: Path
    name: str

    @property
    def wish(self) -> Path:
        return self.folder / f"{self.name}.host.json"

    @property
    def address(self) -> Path:
        return self.folder / f"{self.name}.address.json"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.host.log"

    @property
    def script(self) -> Path:
        return self.folder / f"{self.name}.host.sh"


@dataclass
class _Step:
    process: subprocess.Popen[bytes]
    log: Path

    def ended(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"its step ended with status {code}: {_tail(self.log)}"

    def end(self) -> None:
        try:
            # The servers were shut down: the step ends by itself, with what it has to save.
            self.process.wait(STOP_SECONDS / 4)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)


@dataclass
class _Job:
    job: SchedulerJob
    log: Path

    def ended(self) -> str | None:
        return f"its batch job {self.job.native_id} {self.job.state}: {_tail(self.log)}" if self.job.ended else None

    def end(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS / 4
        while not self.job.ended and time.monotonic() < deadline:
            time.sleep(0.2)
        if not self.job.ended:
            self.job.cancel()


def start_in_allocation(options: DatabaseOptions, allocation: AllocationRecord, node: AllocationNode) -> HostedDatabase:
    """Start a database on a node of the allocation that this process is in, all of it.

    Raises:
        InputError: the allocation's scheduler has no steps that could be put there.
        DatabaseError: it does not start; nothing of it is left.
    """
    from taskensemble.guard import tie

    if allocation.scheduler != "slurm":
        raise InputError(
            f"hosts={node.name!r}: a database on another node of an allocation needs Slurm's srun; start it in a batch job "
            "(batch=True), or on the driver's node"
        )
    paths = _prepare(options)
    command = [
        *(
            "srun",
            "--exact",
            f"--job-name=database-{options.name}",
            f"--nodelist={node.name}",
            "--nodes=1",
            "--ntasks=1",
        ),
        *(f"--cpus-per-task={node.cpus}", "--mem=0", *_host_command(paths)),
    ]
    environment = {name: value for name, value in os.environ.items() if name not in ("SLURM_NTASKS", "SLURM_NPROCS")}
    with paths.log.open("ab") as log:
        process = tie(command, env=environment, stdout=log, stderr=log)
    return _await(options, paths, _Step(process, paths.log), STEP_SECONDS)


def start_in_job(options: DatabaseOptions, batch: BatchRecord) -> HostedDatabase:
    """Submit a batch job that runs a database, and wait, as long as the queue takes, until it answers.

    Raises:
        AllocationError: the scheduler refuses the job.
        DatabaseError: the job ends before the database answers.
    """
    from taskensemble.launch import schedulers

    paths = _prepare(options)
    body = (f"exec {shlex.join(_host_command(paths))}",)
    paths.script.write_text(batch.script(options.name, str(paths.log), str(paths.log), body), encoding="utf-8")
    job = schedulers.submit(batch.scheduler, batch.submit, paths.script, paths.folder)
    logger.info("Submitted the batch job %s for the database %s.", job.native_id, options.name)
    return _await(options, paths, _Job(job, paths.log), None)


def choose_node(allocation: AllocationRecord, asked: Sequence[str], taken: Sequence[str]) -> AllocationNode:
    """The node for a database: the one asked for, else the last that no other database has.

    Raises:
        InputError: a host that the allocation does not have, or no node left beside one for members.
    """
    nodes = {node.name: node for node in allocation.nodes}
    for host in asked:
        if host not in nodes:
            raise InputError(f"hosts={host!r} is not in the allocation {allocation.job_id}; it has {', '.join(nodes)}")
        return nodes[host]
    free = [node for node in allocation.nodes if node.name not in taken]
    if len(free) < 2:
        raise InputError(
            f"The allocation {allocation.job_id} has no node left for a database beside one for members; ask for more nodes, or "
            "name one with hosts="
        )
    return free[-1]


def _prepare(options: DatabaseOptions) -> DatabasePaths:
    if all(interface in ("lo", "127.0.0.1") for interface in options.interfaces):
        logger.warning(
            "The database %s listens on %s alone: members on other nodes cannot reach it; give interface= one that they can.",
            options.name,
            options.interfaces[0],
        )
    paths = DatabasePaths(options.folder.absolute(), options.name)
    paths.address.unlink(missing_ok=True)
    wish = asdict(options) | {"folder": str(paths.folder), "owner": None}
    write_private(paths.wish, json.dumps(wish))
    return paths


def _host_command(paths: DatabasePaths) -> list[str]:
    return [sys.executable, "-P", "-m", "taskensemble.launch.database", str(paths.wish)]


def _await(options: DatabaseOptions, paths: DatabasePaths, host: Host, seconds: float | None) -> HostedDatabase:
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        while not paths.address.exists():
            if (why := host.ended()) is not None:
                raise DatabaseError(f"The database {options.name} did not start: {why}")
            if deadline is not None and time.monotonic() > deadline:
                raise DatabaseError(f"The database {options.name} did not start within {seconds:g} s; see {paths.log}")
            time.sleep(0.1)
    except BaseException:
        host.end()
        raise
    return HostedDatabase(read_record(paths.address), host)


def _tail(log: Path) -> str:
    try:
        return "; ".join(log.read_text(errors="replace").splitlines()[-3:])
    except OSError:
        return "it wrote no log"


def main(argv: list[str]) -> int:
    """Run a database on this node until it ends or is told to."""
    path = Path(argv[0])
    wish = json.loads(path.read_text(encoding="utf-8"))
    tuples = {name: tuple(value) for name, value in wish.items() if isinstance(value, list)}
    options = DatabaseOptions(**(wish | tuples | {"folder": Path(wish["folder"])}))
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: told.append(number))
    try:
        record = start_database(options)
    except TaskensembleError as error:
        print(error, file=sys.stderr)
        return 1
    node = os.environ.get("SLURMD_NODENAME")
    shown = record.model_copy(update={"host": node}) if node else record
    write_record(DatabasePaths(options.folder, options.name).address, shown)
    while not told and is_alive(record):
        time.sleep(0.5)
    stop_database(record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
