"""The allocation that a process runs in, as the scheduler's environment variables tell it. Pure: text in, record out; but for
`of_this_process`, which asks Slurm for what its variables leave out.

Slurm      SLURM_JOB_ID, SLURM_JOB_NODELIST, SLURM_JOB_CPUS_PER_NODE (`4(x2),2`), SLURM_GPUS_ON_NODE or SLURM_GPUS_PER_NODE,
           SLURM_MEM_PER_NODE; for a heterogeneous job the same with _HET_GROUP_<n>. Where `salloc` starts a shell, no variable
           tells of `--gres=gpu:2` or of `--gpus=4`'s share of a node: `scontrol --details show job` does
PBS        PBS_JOBID, PBS_NODEFILE (a file, a line a rank), NCPUS
LSF        LSB_JOBID, LSB_MCPU_HOSTS (`h1 4 h2 4`)
Grid Engine  JOB_ID, PE_HOSTFILE (a file: `host slots queue …`)
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from taskensemble.engine.records import MemberRecord, Record, ResourcesRecord, RunRecord
from taskensemble.errors import AllocationError

Scheduler = Literal["slurm", "pbs", "lsf", "sge"]


class AllocationNode(Record):
    """A node of an allocation and what of it belongs to the job."""

    name: str
    cpus: int
    gpus: int = 0


class AllocationRecord(Record):
    """An allocation of a scheduler."""

    scheduler: Scheduler
    job_id: str
    nodes: tuple[AllocationNode, ...]
    memory_mb: int = 0
    """MiB of the job on each node, where the scheduler counts memory by node; 0: it does not."""
    het_groups: tuple[int, ...] = ()
    """Nodes of each component of a heterogeneous job, in order."""
    ends: float | None = None
    """When its time is up, on this machine's monotonic clock; None: that is not known."""

    @property
    def time_left(self) -> float:
        """Seconds until its time is up; infinite where that is not known."""
        return math.inf if self.ends is None else max(0.0, self.ends - time.monotonic())

    @property
    def cpus(self) -> int:
        """CPUs in all."""
        return sum(node.cpus for node in self.nodes)

    @property
    def hosts(self) -> list[str]:
        """The nodes' names."""
        return [node.name for node in self.nodes]

    def components(self) -> list[list[str]]:
        """The names of the nodes of each component of a heterogeneous job; one list with all nodes for others."""
        names = iter(self.hosts)
        return [list(itertools.islice(names, size)) for size in self.het_groups or (len(self.nodes),)]


def from_environment(environment: Mapping[str, str]) -> AllocationRecord | None:
    """The allocation of a process with this environment; None: it is in none.

    Raises:
        AllocationError: the variables are there but cannot be read.
    """
    if environment.get("SLURM_JOB_ID") and _slurm_nodelists(environment):
        return _slurm(environment)
    if environment.get("PBS_JOBID") and environment.get("PBS_NODEFILE"):
        return _pbs(environment)
    if environment.get("LSB_JOBID") and environment.get("LSB_MCPU_HOSTS"):
        return _lsf(environment)
    if environment.get("JOB_ID") and environment.get("PE_HOSTFILE"):
        return _sge(environment)
    return None


def of_this_process() -> AllocationRecord | None:
    """The allocation that this process is in, with the GPUs and the memory that Slurm says it has; None: it is in none.

    Raises:
        AllocationError: the scheduler's variables are there but cannot be read.
    """
    allocation = from_environment(os.environ)
    if allocation is None:
        return None
    if allocation.scheduler != "slurm":
        return _with_walltime(allocation, os.environ.get(WALLTIME, ""))
    return with_details(allocation, *_details(allocation.job_id))


WALLTIME = "TASKENSEMBLE_JOB_SECONDS"
"""Seconds that a job of ours asked its scheduler for, which begin when its worker does."""


def _with_walltime(allocation: AllocationRecord, seconds: str) -> AllocationRecord:
    if not seconds:
        return allocation
    return allocation.model_copy(update={"ends": time.monotonic() + float(seconds)})


def job_of(environment: Mapping[str, str]) -> str:
    """Id of the scheduler's job that a process with this environment runs in; empty: in none.

    The shell that `salloc` starts on a login node has the job's variables and is not in it; SLURMD_NODENAME is what Slurm sets
    for a process that it has started on one of the job's nodes.
    """
    allocation = from_environment(environment)
    if allocation is None or (allocation.scheduler == "slurm" and not environment.get("SLURMD_NODENAME")):
        return ""
    return allocation.job_id


def with_details(allocation: AllocationRecord, text: str, at: float | None = None) -> AllocationRecord:
    """An allocation with what `scontrol --details --oneliner show job` says of it; as it was, where that says nothing.

    `RunTime=00:00:05 TimeLimit=1-00:00:00 … Nodes=n[3-4] CPU_IDs=0-3 Mem=2000 GRES=gpu:a100:2(IDX:0-1)`

    Parameters:
        at: when it said so, on the monotonic clock; None: now.
    """
    runs = re.search(r"\bRunTime=(\S+) TimeLimit=(\S+)", text)
    limit = slurm_seconds(runs[2]) if runs else None
    if runs and limit is not None:
        ends = (time.monotonic() if at is None else at) + limit - (slurm_seconds(runs[1]) or 0.0)
        allocation = allocation.model_copy(update={"ends": ends})
    rows = [
        (node, int(memory), _gres_gpus(gres))
        for nodes, memory, gres in re.findall(r"\bNodes=(\S+) CPU_IDs=\S+ Mem=(\d+) GRES=(\S*)", text)
        for node in expand_hostlist(nodes)
    ]
    if {node for node, _, _ in rows} != set(allocation.hosts):
        return allocation
    gpus = {node: count for node, _, count in rows}
    nodes = tuple(node.model_copy(update={"gpus": gpus[node.name]}) for node in allocation.nodes)
    memory = allocation.memory_mb or min(memory for _, memory, _ in rows)
    return allocation.model_copy(update={"nodes": nodes, "memory_mb": memory})


def _gres_gpus(gres: str) -> int:
    """GPUs in `gpu:2(IDX:0-1)`, `gpu:a100:1(IDX:0),gpu:v100:1(IDX:1),nic:1`."""
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,()]+)?:(\d+)", gres))


@functools.lru_cache(maxsize=4)
def _details(job_id: str) -> tuple[str, float]:
    """What Slurm says of a job, and when it did."""
    at = time.monotonic()
    try:
        told = subprocess.run(
            ["scontrol", "--details", "--oneliner", "show", "job", job_id],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        told = ""
    return told, at


def slurm_seconds(text: str) -> float | None:
    """A time as Slurm writes and reads it, in seconds; None: it is none (UNLIMITED).

    `30` and `30:00` are minutes and minutes with seconds, `1:30:00` has hours, `1-12`, `1-12:30` and `1-12:30:00` days.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        return None
    days, *parts = (None if part is None else int(part) for part in match.groups())
    first, second, third = parts
    if days is not None or third is not None:
        hours, minutes, seconds = first, second, third
    else:
        hours, minutes, seconds = 0, first, second
    return (days or 0) * 86400.0 + (hours or 0) * 3600.0 + (minutes or 0) * 60.0 + (seconds or 0)


_INTERACTIVE = {"slurm": "salloc -N 1 python driver.py", "lsf": "bsub -Is python driver.py", "sge": "qrsh"}
"""How a driver gets into an allocation, by launcher; the others: by `qsub -I`."""


def check_allocation(
    launcher: str, run: RunRecord, members: Iterable[MemberRecord], environment: Mapping[str, str]
) -> None:
    """Whether members have somewhere to run that a cluster's launcher allows.

    Raises:
        AllocationError: a launcher other than local, and a template without a batch job or an allocation id, in no allocation.
    """
    if launcher == "local" or from_environment(environment) is not None:
        return
    nowhere = {
        number
        for number, template in enumerate(run.templates)
        if not template.batch_queue and not any(item.startswith("--jobid") for item in template.command.head)
    }
    if nowhere:
        names = dict.fromkeys(run.entities[member.entity].name for member in members if member.template in nowhere)
        raise AllocationError(
            f"launcher={launcher!r}: this driver runs in no allocation, and no batch settings were given for "
            f"{', '.join(map(repr, names))}. Start the driver inside an allocation (`{_INTERACTIVE.get(launcher, 'qsub -I')}`), "
            "give batch_settings=exp.create_batch_settings(nodes=1, time='01:00:00'), or use launcher='local'."
        )


def check_room(run: RunRecord, allocation: AllocationRecord, reserved: Collection[str] = ()) -> None:
    """Whether every member without a batch job could ever run in the allocation, however long it waits.

    Parameters:
        reserved: nodes that members are kept off, since databases run there.

    Raises:
        AllocationError: a member needs more than the idle allocation has; the message names both.
    """
    nodes = [node for node in allocation.nodes if node.name not in reserved]
    for template in run.templates:
        wanted = template.resources
        if template.batch_queue or any(item.startswith("--jobid") for item in template.command.head):
            continue
        if wanted.time > allocation.time_left:
            raise AllocationError(
                f"resources: {' '.join(template.command.head)!r} asks for time={wanted.time:g} s, but the allocation "
                f"{allocation.job_id} has {allocation.time_left:.0f} s left; ask for a longer allocation or for less"
            )
        held = [
            _could_hold([node for node in nodes if node.name in names], wanted) for names in allocation.components()
        ]
        if all(held[group] for group in wanted.het_groups if group < len(held)) if wanted.het_groups else any(held):
            continue
        taken = (
            f", {len(allocation.nodes) - len(nodes)} more have databases" if len(nodes) < len(allocation.nodes) else ""
        )
        raise AllocationError(
            f"resources: {' '.join(template.command.head)!r} holds {wanted.nodes} nodes with cpus={wanted.cpus} and "
            f"gpus={wanted.gpus:g} on each, but the allocation {allocation.job_id} has {_described(nodes)}{taken}; ask for a "
            "larger allocation or a smaller member"
        )


def _could_hold(nodes: Sequence[AllocationNode], wanted: ResourcesRecord) -> bool:
    enough = [node for node in nodes if node.cpus >= wanted.cpus and node.gpus >= wanted.gpus]
    spread = wanted.nodes == 1 and not wanted.whole_node and not wanted.gpus
    return len(enough) >= wanted.nodes or (spread and wanted.cpus <= sum(node.cpus for node in nodes))


def _described(nodes: Sequence[AllocationNode]) -> str:
    """`2 nodes of 4 CPUs and 0 GPUs, 1 node of …`"""
    kinds = Counter((node.cpus, node.gpus) for node in nodes)
    parts = (f"{count} node{'s' * (count > 1)} of {cpus} CPUs and {gpus} GPUs" for (cpus, gpus), count in kinds.items())
    return ", ".join(parts) or "no node for members"


def expand_hostlist(text: str) -> list[str]:
    """The names in a Slurm host list: `n[1-3,07],login` → n1 n2 n3 n07 login.

    Raises:
        AllocationError: brackets that do not match, or a range that is none.
    """
    return [name for part in _split_list(text) for name in _expand(part)]


def expand_counts(text: str) -> list[int]:
    """Slurm's counts by node: `4(x2),2` → 4 4 2.

    Raises:
        AllocationError: something else.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if match is None:
            raise AllocationError(f"{text!r} is not a list of counts as Slurm writes it (such as 4(x2),2)")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def _slurm_nodelists(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """For each component of the job: its suffix, its nodes and its CPUs a node."""
    size = int(environment.get("SLURM_HET_SIZE") or 0)
    suffixes = [f"_HET_GROUP_{group}" for group in range(size)] or [""]
    found = []
    for suffix in suffixes:
        nodes = environment.get(f"SLURM_JOB_NODELIST{suffix}") or environment.get(f"SLURM_NODELIST{suffix}") or ""
        cpus = environment.get(f"SLURM_JOB_CPUS_PER_NODE{suffix}") or ""
        if nodes:
            found.append((suffix, nodes, cpus))
    return found


def _slurm(environment: Mapping[str, str]) -> AllocationRecord:
    nodes: list[AllocationNode] = []
    groups: list[int] = []
    for suffix, nodelist, cpu_text in _slurm_nodelists(environment):
        names = expand_hostlist(nodelist)
        cpus = expand_counts(cpu_text) if cpu_text else [1] * len(names)
        if len(cpus) != len(names):
            raise AllocationError(
                f"SLURM_JOB_NODELIST{suffix}={nodelist!r} has {len(names)} nodes, "
                f"SLURM_JOB_CPUS_PER_NODE{suffix}={cpu_text!r} has {len(cpus)}"
            )
        gpus = _slurm_gpus(environment, suffix)
        nodes += [AllocationNode(name=name, cpus=count, gpus=gpus) for name, count in zip(names, cpus, strict=True)]
        groups.append(len(names))
    return AllocationRecord(
        scheduler="slurm",
        job_id=environment["SLURM_JOB_ID"],
        nodes=tuple(nodes),
        memory_mb=int(environment.get("SLURM_MEM_PER_NODE") or 0),
        het_groups=tuple(groups) if len(groups) > 1 else (),
    )


def _slurm_gpus(environment: Mapping[str, str], suffix: str) -> int:
    if on_node := environment.get(f"SLURM_GPUS_ON_NODE{suffix}"):
        return int(on_node)
    # `4`, or `a100:4`
    per_node = environment.get(f"SLURM_GPUS_PER_NODE{suffix}") or environment.get(f"SLURM_JOB_GPUS_PER_NODE{suffix}")
    return int(per_node.rpartition(":")[2]) if per_node else 0


def _pbs(environment: Mapping[str, str]) -> AllocationRecord:
    lines = _lines(environment, "PBS_NODEFILE")
    cpus = int(environment.get("NCPUS") or 1)
    names = list(dict.fromkeys(line.split()[0] for line in lines))
    return AllocationRecord(
        scheduler="pbs",
        job_id=environment["PBS_JOBID"],
        nodes=tuple(
            AllocationNode(name=name, cpus=max(cpus, sum(line.split()[0] == name for line in lines))) for name in names
        ),
    )


def _lsf(environment: Mapping[str, str]) -> AllocationRecord:
    words = environment["LSB_MCPU_HOSTS"].split()
    if len(words) % 2 or not all(count.isdigit() for count in words[1::2]):
        raise AllocationError(f"LSB_MCPU_HOSTS={environment['LSB_MCPU_HOSTS']!r} is not a list of hosts and slots")
    pairs = list(zip(words[::2], map(int, words[1::2]), strict=True))
    # On systems with jsrun the first host is a launch node with one slot, where no rank may run.
    if len(pairs) > 1 and pairs[0][1] == 1 and all(slots > 1 for _, slots in pairs[1:]):
        del pairs[0]
    return AllocationRecord(
        scheduler="lsf",
        job_id=environment["LSB_JOBID"],
        nodes=tuple(AllocationNode(name=name, cpus=slots) for name, slots in pairs),
    )


def _sge(environment: Mapping[str, str]) -> AllocationRecord:
    rows = [line.split() for line in _lines(environment, "PE_HOSTFILE")]
    return AllocationRecord(
        scheduler="sge",
        job_id=environment["JOB_ID"],
        nodes=tuple(AllocationNode(name=row[0], cpus=int(row[1])) for row in rows),
    )


def _lines(environment: Mapping[str, str], variable: str) -> list[str]:
    try:
        text = Path(environment[variable]).read_text(encoding="utf-8")
    except OSError as error:
        raise AllocationError(f"{variable}={environment[variable]!r} cannot be read: {error}") from error
    return [line for line in text.splitlines() if line.strip()]


def _split_list(text: str) -> Iterator[str]:
    """The parts of a host list, apart at commas outside brackets."""
    part, depth = "", 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield part
            part = ""
        else:
            part += letter
    if depth:
        raise AllocationError(f"{text!r} is not a host list: its brackets do not match")
    if part:
        yield part


def _expand(part: str) -> Iterator[str]:
    pieces = re.split(r"\[([^\]]*)\]", part.strip())
    # Text stands at even places, the insides of brackets at odd ones.
    choices = [[piece] if place % 2 == 0 else list(_numbers(piece, part)) for place, piece in enumerate(pieces)]
    return ("".join(names) for names in itertools.product(*choices))


def _numbers(text: str, part: str) -> Iterator[str]:
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise AllocationError(f"{part!r} is not a host list: {piece!r} is no number and no range")
        yield from (f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1))


class BatchRecord(Record):
    """A batch job as its settings render it."""

    scheduler: Scheduler
    submit: str
    """The command that submits."""
    headers: tuple[str, ...]
    """First lines of the script; `{name}`, `{output}` and `{error}` stand for the job's name and its output files."""
    preamble: tuple[str, ...] = ()
    requeue: int = 0
    """How many further jobs are asked for when one ends before its work does."""
    walltime: float | None = None
    """Seconds that the job may take; None: the queue's default."""

    def script(self, name: str, output: str, error: str, body: tuple[str, ...]) -> str:
        """The whole script: headers, preamble, then `body`."""
        filled = [
            line.replace("{name}", name).replace("{output}", output).replace("{error}", error) for line in self.headers
        ]
        return "\n".join([*filled, "", *self.preamble, "", *body, ""])
