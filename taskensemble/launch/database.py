"""Databases on a cluster: on nodes of their own in the driver's allocation, or in a batch job of their own.

On each node `python -P -m taskensemble.launch.database <file>` starts the node's servers and their supervisor, writes where they
answer and stays until they end: `Experiment.stop` shuts the servers down, a walltime or a dead driver ends the step with
everything in it, and a job ends by itself when nobody uses its database (launch/use.py). The shards of a cluster go round the
nodes; the driver makes them one cluster and waits until it is healthy. In an allocation the nodes are taken from the members.

    <folder>/<name>.host.json          what is to be started (0600)
    <folder>/<name>.servers.<n>.json   where the servers of a cluster's n-th node answer, once they do
    <folder>/<name>.address.<n>.json   the same, once inference workers can be started for them
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
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from taskensemble.database import DatabaseOptions, is_alive, read_record, start_database, stop_database, write_record
from taskensemble.database.cluster import form_cluster
from taskensemble.database.connection import login
from taskensemble.engine.allocation import AllocationNode, AllocationRecord, BatchRecord
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.errors import DatabaseError, InputError, TaskensembleError
from taskensemble.launch.files import write_private
from taskensemble.launch.use import Attendance, Use

if TYPE_CHECKING:
    from taskensemble.launch.schedulers import SchedulerJob

logger = logging.getLogger("taskensemble")

STEP_SECONDS = 300.0
"""How long a step may wait for its node and start its servers."""
STOP_SECONDS = 60.0
LOOK_SECONDS = 0.5
_JOB_WISHES = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE", "SLURM_CPUS_PER_TASK", "SLURM_DISTRIBUTION")
USE_SECONDS = 2.0
"""Between two looks at who uses a database."""


class Host(Protocol):
    """Where a database's servers run: a step or a job."""

    def ended(self) -> str | None:
        """Why it has ended; None: it has not."""

    def end(self) -> None:
        """End it, and wait until it has."""


@dataclass(frozen=True)
class JobUse:
    """How a database's batch job knows that nobody needs it any more.

    Attributes:
        store_url: the record store, which knows the experiment's runs.
        experiment: name of the experiment.
        linger: seconds that the job goes on when nobody uses the database.
    """

    store_url: str
    experiment: str
    linger: float


@dataclass(frozen=True)
class HostedDatabase:
    """A database on another node."""

    record: DatabaseAddressRecord
    host: Host
    attendance: Attendance

    def stop(self) -> None:
        """Shut the servers down and let go of their node."""
        self.attendance.leave()
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

    def servers(self, node: int) -> Path:
        return self.folder / f"{self.name}.servers.{node}.json"

    def address(self, node: int) -> Path:
        return self.folder / f"{self.name}.address.{node}.json"

    def records(self, kind: Literal["servers", "address"]) -> list[Path]:
        """Those that are there, in the order of the nodes."""
        return sorted(self.folder.glob(f"{self.name}.{kind}.*.json"), key=lambda path: int(path.suffixes[-2][1:]))

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
        return None if code is None else f"its step ended with status {code}: {told_in(self.log)}"

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
        return f"its batch job {self.job.native_id} {self.job.state}: {told_in(self.log)}" if self.job.ended else None

    def end(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS / 4
        while not self.job.ended and time.monotonic() < deadline:
            time.sleep(0.2)
        if not self.job.ended:
            self.job.cancel()


def start_in_allocation(
    options: DatabaseOptions, allocation: AllocationRecord, nodes: Sequence[AllocationNode]
) -> HostedDatabase:
    """Start a database on nodes of the allocation that this process is in, all of each.

    Raises:
        InputError: the allocation's scheduler has no steps that could be put there.
        DatabaseError: it does not start, or is not healthy; nothing of it is left.
    """
    from taskensemble.guard import tie

    names = ",".join(node.name for node in nodes)
    if allocation.scheduler != "slurm":
        raise InputError(
            f"hosts={names!r}: a database on other nodes of an allocation needs Slurm's srun; start it in a batch job "
            "(batch=True), or on the driver's node"
        )
    paths = _prepare(options)
    command = [*step_options(options.name, nodes), *_host_command(paths)]
    environment = {name: value for name, value in os.environ.items() if name not in _JOB_WISHES}
    with paths.log.open("ab") as log:
        process = tie(command, env=environment, stdout=log, stderr=log)
    return _await(options, paths, _Step(process, paths.log), STEP_SECONDS)


def step_options(name: str, nodes: Sequence[AllocationNode]) -> list[str]:
    """The `srun` that starts one task on each node and gives it all of the node, its GPUs for inference among it."""
    gpus = min(node.gpus for node in nodes)
    return [
        *("srun", "--exact", f"--job-name=database-{name}", f"--nodelist={','.join(node.name for node in nodes)}"),
        # A cluster is of no use without one of its nodes, and those that wait for it would wait for long.
        *(f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"),
        *(f"--cpus-per-task={min(node.cpus for node in nodes)}", "--mem=0"),
        *([f"--gres=gpu:{gpus}"] if gpus else []),
    ]


def start_in_job(options: DatabaseOptions, batch: BatchRecord, use: JobUse) -> HostedDatabase:
    """Submit a batch job that runs a database, and wait, as long as the queue takes, until it answers.

    Under Slurm the shards of a cluster go round the job's nodes; elsewhere all are on its first node, with a port each.

    Parameters:
        use: how the job knows that nobody needs it any more, and how long it lingers then.

    Raises:
        AllocationError: the scheduler refuses the job.
        DatabaseError: the job ends before the database answers, or the cluster is not healthy.
    """
    from taskensemble.launch import schedulers

    paths = _prepare(options, use)
    line = shlex.join(_host_command(paths))
    body = [f"exec {line}"]
    if batch.scheduler == "slurm" and options.shards > 1:
        spread = "--nodes=$SLURM_JOB_NUM_NODES --ntasks=$SLURM_JOB_NUM_NODES --ntasks-per-node=1 --kill-on-bad-exit=1"
        body = ["unset SLURM_EXPORT_ENV", f"exec srun {spread} {line}"]
    paths.script.write_text(batch.script(options.name, str(paths.log), str(paths.log), tuple(body)), encoding="utf-8")
    job = schedulers.submit(batch.scheduler, batch.submit, paths.script, paths.folder)
    logger.info("Submitted the batch job %s for the database %s.", job.native_id, options.name)
    return _await(options, paths, _Job(job, paths.log), None)


def choose_nodes(
    allocation: AllocationRecord, shards: int, asked: Sequence[str], taken: Sequence[str]
) -> list[AllocationNode]:
    """The nodes for a database: those asked for, else the last that no other database has; at most one for each shard.

    Raises:
        InputError: a host that the allocation does not have, or no node left beside one for members.
    """
    nodes = {node.name: node for node in allocation.nodes}
    for host in asked:
        if host not in nodes:
            raise InputError(f"hosts={host!r} is not in the allocation {allocation.job_id}; it has {', '.join(nodes)}")
    if asked:
        return [nodes[host] for host in dict.fromkeys(asked)][:shards]
    free = [node for node in allocation.nodes if node.name not in taken]
    if len(free) < 2:
        raise InputError(
            f"The allocation {allocation.job_id} has no node left for a database beside one for members; ask for more nodes, or "
            "name one with hosts="
        )
    return free[-min(shards, len(free) - 1) :]


def _prepare(options: DatabaseOptions, use: JobUse | None = None) -> DatabasePaths:
    if all(interface in ("lo", "127.0.0.1") for interface in options.interfaces):
        logger.warning(
            "The database %s listens on %s alone: members on other nodes cannot reach it; give interface= one that they can.",
            options.name,
            options.interfaces[0],
        )
    paths = DatabasePaths(options.folder.absolute(), options.name)
    for path in (*paths.records("servers"), *paths.records("address")):
        path.unlink()
    paths.log.unlink(missing_ok=True)
    wish = {
        "options": asdict(options) | {"folder": str(paths.folder), "owner": None},
        "use": None if use is None else asdict(use),
    }
    write_private(paths.wish, json.dumps(wish))
    return paths


def _host_command(paths: DatabasePaths) -> list[str]:
    return [sys.executable, "-P", "-m", "taskensemble.launch.database", str(paths.wish)]


def _await(options: DatabaseOptions, paths: DatabasePaths, host: Host, seconds: float | None) -> HostedDatabase:
    try:
        if options.shards > 1:
            servers = merged(_await_records(options, paths, host, "servers", seconds), options.shards)
            form_cluster(servers.addresses, login(servers))
        record = merged(_await_records(options, paths, host, "address", seconds), options.shards)
    except BaseException:
        for started in (read_record(path) for path in (*paths.records("servers"), *paths.records("address"))):
            with suppress(DatabaseError):
                stop_database(started)
        host.end()
        raise
    return HostedDatabase(record, host, Attendance(record))


def _await_records(
    options: DatabaseOptions,
    paths: DatabasePaths,
    host: Host,
    kind: Literal["servers", "address"],
    seconds: float | None,
) -> list[DatabaseAddressRecord]:
    """The records of all nodes, once every shard is in one."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        records = [read_record(path) for path in paths.records(kind)]
        if sum(len(record.addresses) for record in records) >= options.shards:
            return records
        if (why := host.ended()) is not None:
            raise DatabaseError(f"The database {options.name} did not start: {why}")
        if deadline is not None and time.monotonic() > deadline:
            raise DatabaseError(f"The database {options.name} did not start within {seconds:g} s; see {paths.log}")
        time.sleep(0.1)


def merged(records: Sequence[DatabaseAddressRecord], shards: int) -> DatabaseAddressRecord:
    """The record of a whole database from those of its nodes, on which its shards go round.

    Raises:
        DatabaseError: nodes that others cannot reach.
    """
    addresses = [records[shard % len(records)].addresses[shard // len(records)] for shard in range(shards)]
    if len(set(addresses)) < shards:
        raise DatabaseError(
            f"The database's servers on {', '.join(record.host for record in records)} all answer at {addresses[0]}: give "
            "interface= one by which the nodes reach each other"
        )
    hosts = ",".join(record.host for record in records)
    return records[0].model_copy(update={"addresses": tuple(addresses), "cluster": shards > 1, "host": hosts})


def told_in(log: Path) -> str:
    """Why it ended, by its log: what a node said first is the cause, and what Slurm says of it is of use only alone."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "it wrote no log"
    own = [line for line in dict.fromkeys(lines) if line and not line.startswith(("srun:", "slurmstepd"))]
    return "; ".join(own[:3] or lines[-3:])


def main(argv: list[str]) -> int:
    """Run a node's part of a database until it ends or is told to."""
    wish = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    options, task = _part(wish["options"])
    if options.part == ():
        return 0
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: told.append(number))
    paths = DatabasePaths(options.folder, options.name)
    try:
        record = start_database(options, lambda servers: write_record(paths.servers(task), _named(servers)))
    except TaskensembleError as error:
        print(error, file=sys.stderr)
        return 1
    write_record(paths.address(task), _named(record))
    unused = _Unused(paths, JobUse(**wish["use"])) if wish["use"] is not None else None
    while not told and is_alive(record):
        if unused is not None and unused():
            print(f"Nobody has used the database for {wish['use']['linger']:g} s; it ends.", file=sys.stderr)
            break
        time.sleep(LOOK_SECONDS)
    stop_database(record)
    return 0


class _Unused:
    """Whether a database has not been used for as long as its job lingers."""

    def __init__(self, paths: DatabasePaths, use: JobUse) -> None:
        self._used = Use(
            lambda: [read_record(path) for path in paths.records("address")], use.store_url, use.experiment
        )
        self._linger = use.linger
        self._since = self._next = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + USE_SECONDS
            if self._used():
                self._since = time.monotonic()
        return now - self._since > self._linger


def _named(record: DatabaseAddressRecord) -> DatabaseAddressRecord:
    """The record with the scheduler's name of this node, if there is one."""
    return record.model_copy(update={"host": os.environ.get("SLURMD_NODENAME", record.host)})


def _part(given: dict[str, Any]) -> tuple[DatabaseOptions, int]:
    """What this process starts, and its number among the tasks of its step."""
    tuples = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    options = DatabaseOptions(**(given | tuples | {"folder": Path(given["folder"])}))
    if options.shards == 1:
        return options, 0
    task, tasks = int(os.environ.get("SLURM_PROCID", "0")), int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return replace(options, part=tuple(range(task, options.shards, tasks))), task


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
