"""Slots that are a whole allocation: which nodes and CPUs a member gets there, and the command line that puts it on them.

One worker serves an allocation of several nodes. It counts the CPUs and GPUs of every node, gives each member nodes and cores
of its own, and tells the run command about them:

    srun                  `--exact --nodelist=… --nodes=…`: Slurm gives the step cores that no other step has
    mpirun, mpiexec       under Slurm the scheduler's own variables, cut down to the member's share (both Open Mpi and MPICH read
                          them); elsewhere `--host`; Open MPI is kept to the member's cores by hwloc_base_cpu_list
    PALS, aprun           `--hosts`, `--node-list`
    jsrun                 nothing: it places its resource sets itself
    no run command        under Slurm a step of one task, so that every node of the allocation is used

Everything but `cancel_steps` and `mpi_flavour` is pure.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskensemble.engine.allocation import AllocationNode, AllocationRecord, expand_hostlist
from taskensemble.engine.records import CommandRecord, ResourcesRecord


@dataclass(frozen=True)
class Share:
    """What a member holds of one node. CPUs and GPUs are counted from 0 among the job's own on that node."""

    node: str
    cpus: tuple[int, ...]
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Placement:
    """What a member holds of the allocation."""

    shares: tuple[Share, ...]

    @property
    def hosts(self) -> list[str]:
        """Names of its nodes."""
        return [share.node for share in self.shares]

    @property
    def cpus(self) -> int:
        """CPUs in all."""
        return sum(len(share.cpus) for share in self.shares)


@dataclass
class _Free:
    """What is free on a node."""

    node: AllocationNode
    cpus: set[int]
    gpus: dict[int, float]

    @property
    def idle(self) -> bool:
        return len(self.cpus) == self.node.cpus and all(left == 1.0 for left in self.gpus.values())


class AllocationSlots:
    """The slots of an allocation. Members take a placement and give it back; not thread-safe."""

    def __init__(self, allocation: AllocationRecord, reserved: Iterable[str] = ()) -> None:
        self.allocation = allocation
        self._reserved = set(reserved)
        self._fractions: dict[Placement, float] = {}
        self._nodes = {
            node.name: _Free(node, set(range(node.cpus)), dict.fromkeys(range(node.gpus), 1.0))
            for node in allocation.nodes
        }

    @property
    def total(self) -> int:
        """CPUs that members can hold."""
        return sum(node.node.cpus for node in self._open(set()))

    @property
    def free(self) -> int:
        """CPUs that nobody holds."""
        return sum(len(node.cpus) for node in self._open(set()))

    @property
    def gpus(self) -> int:
        """GPUs that members can hold."""
        return sum(node.node.gpus for node in self._open(set()))

    def reserve(self, nodes: Iterable[str]) -> None:
        """Keep members off these nodes from now on (a database runs there), and off no others."""
        self._reserved = set(nodes)

    def impossible(self, command: CommandRecord, resources: ResourcesRecord) -> str:
        """Why a member could never run here; empty: it could."""
        empty = AllocationSlots(self.allocation, self._reserved)
        if empty.take(command, resources) is not None:
            return ""
        wanted = f"{command.nodes or 1} node(s) with {resources.cpus} CPUs"
        if resources.gpus:
            wanted += f" and {resources.gpus:g} GPUs"
        largest = max((node.node.cpus for node in self._open(set())), default=0)
        return (
            f"wants {wanted}; the allocation {self.allocation.job_id} has {len(self._open(set()))} nodes for members, "
            f"the largest with {largest} CPUs"
        )

    def take(self, command: CommandRecord, resources: ResourcesRecord) -> Placement | None:
        """Nodes and CPUs for a member; None: not now."""
        nodes = self._open(hosts_asked(command))
        excluded = hosts_excluded(command)
        candidates = [node for node in nodes if node.node.name not in excluded]
        placement = self._place(candidates, command, resources)
        if placement is None:
            return None
        for share in placement.shares:
            free = self._nodes[share.node]
            free.cpus -= set(share.cpus)
            for gpu in share.gpus:
                free.gpus[gpu] -= _gpu_fraction(resources)
        self._fractions[placement] = _gpu_fraction(resources)
        return placement

    def give(self, placement: Placement) -> None:
        """Take back what a member held."""
        fraction = self._fractions.pop(placement)
        for share in placement.shares:
            free = self._nodes[share.node]
            free.cpus |= set(share.cpus)
            for gpu in share.gpus:
                free.gpus[gpu] = min(1.0, free.gpus[gpu] + fraction)

    def _open(self, asked: set[str]) -> list[_Free]:
        return [
            node for name, node in self._nodes.items() if name not in self._reserved and (not asked or name in asked)
        ]

    def _place(
        self, candidates: Sequence[_Free], command: CommandRecord, resources: ResourcesRecord
    ) -> Placement | None:
        count = command.nodes or max(1, len(hosts_asked(command)))
        largest = max((node.node.cpus for node in candidates), default=0)
        if command.nodes is None and count == 1 and resources.cpus > largest and not resources.whole_node:
            return _spread(candidates, resources.cpus, command.cpus_per_task or 1)
        fitting = [node for node in candidates if _fits(node, resources)]
        if len(fitting) < count:
            return None
        # The fullest nodes first: empty ones stay whole for members that want whole nodes.
        fitting.sort(key=lambda node: len(node.cpus))
        chosen = fitting[:count]
        order = [node.name for node in self.allocation.nodes]
        chosen.sort(key=lambda node: order.index(node.node.name))
        return Placement(tuple(_share(node, resources) for node in chosen))


def launch_line(
    command: CommandRecord,
    args: Sequence[str],
    resources: ResourcesRecord,
    placement: Placement,
    allocation: AllocationRecord,
    *,
    attempt_id: str,
    exported: Sequence[str] = (),
    node_cpus: Sequence[int] = (),
) -> tuple[list[str], dict[str, str | None]]:
    """The command line that runs a member on its placement, and what changes in its environment (None: removed).

    Parameters:
        args: the member's own arguments.
        attempt_id: names the scheduler's step, so that `cancel_steps` finds it.
        exported: variables that ranks on other nodes need.
        node_cpus: numbers of the CPUs that the job has on this node; fewer than it counts: nothing is bound.
    """
    program = [*command.head, *args, *command.tail]
    slurm = allocation.scheduler == "slurm"
    if command.launcher == "srun" or (slurm and not command.launcher):
        options = _srun_options(command, resources, placement, allocation, attempt_id)
        if command.launcher != "srun":
            return ["srun", *options, *program], _srun_environment()
        return [program[0], *options, *program[1:]], _srun_environment()
    if command.launcher in ("mpirun", "mpiexec", "orterun"):
        options, environment = _mpi(command, placement, slurm=slurm, exported=exported)
        environment |= core_environment(_cores(placement, node_cpus))
        return [program[0], *options, *program[1:]], environment
    if command.launcher == "palsmpiexec" and "--hosts" not in command.head:
        return [program[0], "--hosts", ",".join(placement.hosts), *program[1:]], {}
    if command.launcher == "aprun" and not _given(command.head, "--node-list", "-L"):
        return [program[0], f"--node-list={','.join(placement.hosts)}", *program[1:]], {}
    return program, {}


def core_environment(cpus: Sequence[int]) -> dict[str, str | None]:
    """Variables that keep Open MPI's ranks to these CPUs: it binds by the node's topology, not by the affinity it inherits."""
    if not cpus:
        return {"OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none"}
    text = ",".join(map(str, cpus))
    return {"OMPI_MCA_hwloc_base_cpu_list": text, "PRTE_MCA_hwloc_default_cpu_list": text}


def cancel_steps(job_id: str, attempt_id: str, environment: Mapping[str, str]) -> list[str]:
    """Cancel the steps of an attempt that its `srun` has left behind; their ids."""
    squeue, scancel = (shutil.which(name, path=environment.get("PATH")) for name in ("squeue", "scancel"))
    if not squeue or not scancel:
        return []
    listed = subprocess.run(
        [squeue, "--steps", "--noheader", f"--jobs={job_id}", "--format=%i %j"],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    steps = parse_steps(listed.stdout, attempt_id)
    if steps:
        subprocess.run(
            [scancel, "--quiet", *steps], env=dict(environment), capture_output=True, timeout=60, check=False
        )
    return steps


def parse_steps(text: str, attempt_id: str) -> list[str]:
    """Ids of the steps of one name in what `squeue --steps --format="%i %j"` prints."""
    rows = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return [row[0] for row in rows if len(row) == 2 and row[1].strip() == attempt_id]


def hosts_asked(command: CommandRecord) -> set[str]:
    """Nodes that the user's own options name."""
    if command.launcher == "srun":
        return set(expand_hostlist(_value(command.head, "--nodelist", "-w") or ""))
    text = _value(command.head, "--host", "-hosts", "--hosts", "--node-list") or ""
    return {host.partition(":")[0] for host in text.split(",") if host}


def hosts_excluded(command: CommandRecord) -> set[str]:
    """Nodes that the user's own options leave out."""
    text = _value(command.head, "--exclude", "-x") if command.launcher == "srun" else ""
    return set(expand_hostlist(text or ""))


def _fits(node: _Free, resources: ResourcesRecord) -> bool:
    if resources.whole_node:
        return node.idle and node.node.cpus >= resources.cpus and node.node.gpus >= resources.gpus
    return len(node.cpus) >= resources.cpus and len(_gpus(node, resources)) >= _gpu_count(resources)


def _share(node: _Free, resources: ResourcesRecord) -> Share:
    cpus = sorted(node.cpus)
    gpus = _gpus(node, resources)
    if not resources.whole_node:
        cpus, gpus = cpus[: resources.cpus], gpus[: _gpu_count(resources)]
    return Share(node.node.name, tuple(cpus), tuple(gpus))


def _spread(candidates: Sequence[_Free], cpus: int, unit: int) -> Placement | None:
    """A placement over as few nodes as can be, each with a multiple of `unit` CPUs."""
    shares = []
    for node in sorted(candidates, key=lambda node: -len(node.cpus)):
        part = min(cpus, len(node.cpus) // unit * unit)
        if part:
            shares.append(Share(node.node.name, tuple(sorted(node.cpus)[:part])))
            cpus -= part
        if cpus == 0:
            return Placement(tuple(shares))
    return None


def _gpu_count(resources: ResourcesRecord) -> int:
    return -int(-resources.gpus // 1)


def _gpu_fraction(resources: ResourcesRecord) -> float:
    return resources.gpus if 0 < resources.gpus < 1 else 1.0


def _gpus(node: _Free, resources: ResourcesRecord) -> list[int]:
    """GPUs of a node that have room, the fullest first."""
    fraction = _gpu_fraction(resources)
    return sorted((gpu for gpu, left in node.gpus.items() if left >= fraction - 1e-9), key=lambda gpu: node.gpus[gpu])


def _srun_options(
    command: CommandRecord,
    resources: ResourcesRecord,
    placement: Placement,
    allocation: AllocationRecord,
    attempt_id: str,
) -> list[str]:
    head = command.head if command.launcher == "srun" else ()
    options = ["--exact", f"--job-name={attempt_id}"]
    if _given(head, "--jobid"):
        return [options[1]]
    tasks = command.tasks or (command.tasks_per_node or 1) * len(placement.shares)
    if not _given(head, "--nodelist", "-w"):
        options.append(f"--nodelist={','.join(placement.hosts)}")
    if not _given(head, "--nodes", "-N"):
        options.append(f"--nodes={len(placement.shares)}")
    if command.tail:
        return options
    if not _given(head, "--ntasks", "-n"):
        options.append(f"--ntasks={tasks}")
    if not _given(head, "--cpus-per-task", "-c"):
        options.append(f"--cpus-per-task={max(1, placement.cpus // tasks)}")
    if allocation.memory_mb and not _given(head, "--mem", "--mem-per-cpu", "--mem-per-gpu"):
        # A step takes its node's whole memory unless told otherwise, and the next step would wait for it.
        share = placement.shares[0]
        node = next(node for node in allocation.nodes if node.name == share.node)
        fair = allocation.memory_mb * len(share.cpus) // max(1, node.cpus)
        options.append(f"--mem={resources.memory_mb or fair}M")
    if any(node.gpus for node in allocation.nodes) and not _given(head, "--gres", "--gpus", "--gpus-per-node", "-G"):
        wanted = len(placement.shares[0].gpus)
        options.append(f"--gres=gpu:{wanted}" if wanted else "--gres=none")
    return options


def _srun_environment() -> dict[str, str | None]:
    """What `srun` would otherwise read as the member's own wishes from the job's environment."""
    names = (
        "NTASKS",
        "NPROCS",
        "NTASKS_PER_NODE",
        "CPUS_PER_TASK",
        "TASKS_PER_NODE",
        "MEM_PER_NODE",
        "CPU_BIND",
        "EXACT",
    )
    return {f"SLURM_{name}": None for name in (*names, "EXPORT_ENV", "DISTRIBUTION", "TRES_PER_TASK")}


def _mpi(
    command: CommandRecord, placement: Placement, *, slurm: bool, exported: Sequence[str]
) -> tuple[list[str], dict[str, str | None]]:
    flavour = mpi_flavour(command.head[0])
    tasks = [len(share.cpus) // (command.cpus_per_task or 1) or 1 for share in placement.shares]
    options: list[str] = []
    environment: dict[str, str | None] = {}
    if slurm:
        counts = ",".join(map(str, tasks))
        hosts = ",".join(placement.hosts)
        environment = {
            **{f"SLURM_{name}": hosts for name in ("NODELIST", "JOB_NODELIST")},
            **{f"SLURM_{name}": str(len(tasks)) for name in ("NNODES", "JOB_NUM_NODES")},
            **{f"SLURM_{name}": counts for name in ("TASKS_PER_NODE", "JOB_CPUS_PER_NODE")},
            **{f"SLURM_{name}": str(sum(tasks)) for name in ("NTASKS", "NPROCS")},
            # The launcher's own daemons run as steps beside those of other members.
            "SLURM_OVERLAP": "1",
            "SLURM_CPUS_PER_TASK": None,
            "SLURM_MEM_PER_NODE": "0",
        }
    elif not _given(command.head, "--host", "-hosts", "--hostfile", "-f"):
        hosts = ",".join(f"{share.node}:{count}" for share, count in zip(placement.shares, tasks, strict=True))
        options += ["-hosts" if flavour == "mpich" else "--host", hosts]
    if flavour == "openmpi":
        for name in exported:
            options += ["-x", name]
    return options, environment


@functools.lru_cache(maxsize=32)
def mpi_flavour(launcher: str) -> str:
    """Whose the MPI launcher at this path is: `mpich`, or `openmpi` when it does not say."""
    try:
        answer = subprocess.run([launcher, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "openmpi"
    return "mpich" if "hydra" in answer.lower() else "openmpi"


def _cores(placement: Placement, node_cpus: Sequence[int]) -> list[int]:
    share = placement.shares[0]
    if any(other.cpus != share.cpus for other in placement.shares) or max(share.cpus, default=0) >= len(node_cpus):
        return []
    return [node_cpus[cpu] for cpu in share.cpus]


def _given(head: Sequence[str], *options: str) -> bool:
    return any(item == option or item.startswith(f"{option}=") for item in head for option in options)


def _value(head: Sequence[str], *options: str) -> str | None:
    """What an option of the run command was given, as one item or as two."""
    for place, item in enumerate(head[:-1]):
        if item in options:
            return head[place + 1]
        match = re.match(r"(--?[\w-]+)=(.*)", item)
        if match and match[1] in options:
            return match[2]
    return None
