"""Slots that are a whole allocation: which nodes and CPUs a member gets there, and the command line that puts it on them.

One worker serves an allocation of several nodes. It counts the CPUs and GPUs of every node, gives each member nodes and cores
of its own, and tells the run command about them:

    srun                  `--exact --nodelist=… --nodes=…`: Slurm gives the step cores that no other step has
    mpirun, mpiexec       under Slurm the scheduler's own variables, cut down to the member's share (both Open MPI and MPICH read
                          them); elsewhere `--host`; Open MPI is kept to the member's cores by hwloc_base_cpu_list
    PALS, aprun           `--hosts`, `--node-list`
    jsrun                 nothing: it places its resource sets itself
    no run command        under Slurm a step of one task, so that every node of the allocation is used

Pure, but for what asks a program: `cancel_steps`, `job_is_ending`, `mpi_flavour`.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from taskensemble.engine.allocation import WALLTIME, AllocationNode, AllocationRecord, of_this_process
from taskensemble.engine.records import CommandRecord, ResourcesRecord
from workers.slots import Slot, Stay

VARIABLE = "TASKENSEMBLE_ALLOCATION"
"""Set for a worker whose slots are its whole allocation."""

THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

_JOB_WISHES = tuple(
    f"SLURM_{name}"
    for name in (
        *("NTASKS", "NPROCS", "NTASKS_PER_NODE", "CPUS_PER_TASK", "MEM_PER_NODE", "MEM_PER_CPU", "CPU_BIND", "EXACT"),
        *("EXPORT_ENV", "DISTRIBUTION", "TRES_PER_TASK", "GPUS_PER_TASK", "GPUS_PER_NODE", "THREADS_PER_CORE"),
    )
)
"""Variables of a job that `srun` would read as the wishes of a step."""


@dataclass(frozen=True)
class Share:
    """What a member holds of one node. CPUs and GPUs are counted from 0 among the job's own on that node."""

    node: str
    cpus: tuple[int, ...]
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True)
class Placement(Slot):
    """What a member holds of the allocation."""

    shares: tuple[Share, ...] = ()

    @property
    def hosts(self) -> list[str]:
        """Names of its nodes."""
        return [share.node for share in self.shares]


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
    """The slots of an allocation, with the methods of `workers.slots.Node`."""

    def __init__(
        self,
        allocation: AllocationRecord,
        tags: tuple[str, ...] = (),
        reserved: Iterable[str] = (),
        stay: Stay | None = None,
    ) -> None:
        self.allocation = allocation
        self.tags = tags
        self.stay = stay or Stay(allocation.job_id)
        self.memory_mb = allocation.memory_mb
        self._reserved = set(reserved)
        self._order = [node.name for node in allocation.nodes]
        self._nodes = {
            node.name: _Free(node, set(range(node.cpus)), dict.fromkeys(range(node.gpus), 1.0))
            for node in allocation.nodes
        }

    @property
    def cpus(self) -> tuple[int, ...]:
        """One number for each CPU that members can hold."""
        return tuple(range(sum(node.node.cpus for node in self._open())))

    @property
    def gpus(self) -> tuple[str, ...]:
        """Names of the GPUs that members can hold."""
        return tuple(f"{node.node.name}:{gpu}" for node in self._open() for gpu in node.gpus)

    @property
    def kinds(self) -> tuple[tuple[int, int, int], ...]:
        """How many nodes with how many CPUs and GPUs members can hold."""
        counted = Counter((node.node.cpus, node.node.gpus) for node in self._open())
        return tuple((count, cpus, gpus) for (cpus, gpus), count in counted.items())

    @property
    def free(self) -> int:
        """CPUs that no member holds."""
        return sum(len(node.cpus) for node in self._open())

    @property
    def idle(self) -> bool:
        """Whether no member holds anything."""
        return all(node.idle for node in self._nodes.values())

    def reserve(self, nodes: Iterable[str]) -> None:
        """Keep members off these nodes from now on (a database runs there), and off no others."""
        self._reserved = set(nodes)

    def could_ever(self, wanted: ResourcesRecord) -> bool:
        """Whether an idle allocation has what is wanted, and time enough."""
        idle = AllocationSlots(self.allocation, self.tags, self._reserved, self.stay)
        return idle.allocate(wanted) is not None

    def fits(self, wanted: ResourcesRecord) -> int:
        """How many members of this kind would find a place now."""
        if not self.stay.allows(wanted):
            return 0
        if wanted.nodes == 1 and not wanted.whole_node and not wanted.gpus and not wanted.het_groups:
            room = sum(len(node.cpus) // max(1, wanted.cpus) for node in self._open())
            if room:
                return room
        taken = []
        while (placement := self.allocate(wanted)) is not None:
            taken.append(placement)
        for placement in taken:
            self.release(placement)
        return len(taken)

    def allocate(self, wanted: ResourcesRecord) -> Placement | None:
        """Takes nodes and CPUs for a member; None when there is no room now."""
        if not set(wanted.tags) <= set(self.tags) or not self.stay.allows(wanted):
            return None
        shares = self._choose(wanted)
        if shares is None:
            return None
        fraction = _fraction(wanted)
        for share in shares:
            free = self._nodes[share.node]
            free.cpus -= set(share.cpus)
            for gpu in share.gpus:
                free.gpus[gpu] -= fraction
        names = tuple((f"{share.node}:{gpu}", fraction) for share in shares for gpu in share.gpus)
        return Placement(shares[0].cpus, names, wanted.memory_mb, wanted.whole_node, shares=tuple(shares))

    def release(self, slot: Slot) -> None:
        """Gives a placement back."""
        assert isinstance(slot, Placement)
        fractions = dict(slot.gpus)
        for share in slot.shares:
            free = self._nodes[share.node]
            free.cpus |= set(share.cpus)
            for gpu in share.gpus:
                free.gpus[gpu] = min(1.0, free.gpus[gpu] + fractions[f"{share.node}:{gpu}"])

    def _open(self) -> list[_Free]:
        return [node for name, node in self._nodes.items() if name not in self._reserved]

    def _choose(self, wanted: ResourcesRecord) -> list[Share] | None:
        """Shares of nodes; in a heterogeneous job of one component, which a step cannot leave, or of each that is asked for."""
        components = self.allocation.components()
        if len(components) == 1:
            return self._choose_of(self._open(), wanted)
        found = []
        for number in wanted.het_groups or range(len(components)):
            names = components[number] if number < len(components) else ()
            shares = self._choose_of([node for node in self._open() if node.node.name in names], wanted)
            if shares is not None and not wanted.het_groups:
                return shares
            found.append(shares)
        return None if None in found else [share for shares in found for share in shares or ()]

    def _choose_of(self, candidates: list[_Free], wanted: ResourcesRecord) -> list[Share] | None:
        largest = max((node.node.cpus for node in candidates), default=0)
        if wanted.nodes == 1 and wanted.cpus > largest and not wanted.whole_node:
            return _spread(candidates, wanted.cpus)
        fitting = [node for node in candidates if _fits(node, wanted)]
        if len(fitting) < wanted.nodes:
            return None
        # The fullest nodes first: empty ones stay whole for members that want whole nodes.
        fitting.sort(key=lambda node: len(node.cpus))
        chosen = sorted(fitting[: wanted.nodes], key=lambda node: self._order.index(node.node.name))
        return [_share(node, wanted) for node in chosen]


def of_this_worker(tags: tuple[str, ...] = (), stay: Stay | None = None) -> AllocationSlots | None:
    """The slots of this process; None: it is a node's worker.

    Parameters:
        stay: until when it is there; None: no end is known.

    Raises:
        AllocationError: the scheduler's variables cannot be read.
    """
    allocation = of_this_process() if os.environ.get(VARIABLE) else None
    return None if allocation is None else AllocationSlots(allocation, tags, stay=stay)


def forget_wishes(environment: MutableMapping[str, str]) -> None:
    """Take out of an allocation's environment what `srun` would read as a member's own wishes."""
    for name in (*_JOB_WISHES, VARIABLE, WALLTIME):
        environment.pop(name, None)


def launch_line(
    command: CommandRecord,
    argv: Sequence[str],
    placement: Placement,
    allocation: AllocationRecord,
    *,
    attempt_id: str,
    exported: Iterable[str] = (),
    node_cpus: Sequence[int] = (),
) -> tuple[list[str], dict[str, str]]:
    """The command line that runs a member on its placement, and what that adds to its environment.

    Parameters:
        command: of the member's template.
        argv: the member's command line without a placement.
        attempt_id: names the scheduler's step, so that `cancel_steps` finds it.
        exported: variables that ranks on other nodes need.
        node_cpus: numbers of the CPUs that the job has on this node; fewer than it counts: nothing is bound.
    """
    first, *rest = argv
    slurm = allocation.scheduler == "slurm"
    if command.launcher == "srun":
        return [first, *_srun_options(command, placement, allocation, attempt_id), *rest], _threads(command, placement)
    if slurm and not command.launcher:
        options = _srun_options(command, placement, allocation, attempt_id)
        return ["srun", *options, *argv], _threads(command, placement)
    if command.launcher in ("mpirun", "mpiexec", "orterun"):
        options, environment = _mpi(command, placement, slurm=slurm, exported=exported)
        environment |= core_environment(_cores(placement, node_cpus)) | _devices(placement, allocation)
        return [first, *options, *rest], environment
    if command.launcher == "palsmpiexec" and not _given(command.head, "--hosts"):
        return [first, "--hosts", ",".join(placement.hosts), *rest], {}
    if command.launcher == "aprun" and not _given(command.head, "--node-list", "-L"):
        return [first, f"--node-list={','.join(placement.hosts)}", *rest], {}
    return list(argv), {}


def _threads(command: CommandRecord, placement: Placement) -> dict[str, str]:
    tasks = command.tasks or (command.tasks_per_node or 1) * len(placement.shares)
    threads = command.cpus_per_task or max(1, sum(len(share.cpus) for share in placement.shares) // tasks)
    return dict.fromkeys(THREAD_LIMITS, str(threads))


def _devices(placement: Placement, allocation: AllocationRecord) -> dict[str, str]:
    if not any(node.gpus for node in allocation.nodes):
        return {}
    # Empty where it holds none, as a step with --gres=none sees none.
    return dict.fromkeys(GPU_VARIABLES, ",".join(map(str, placement.shares[0].gpus)))


def core_environment(cpus: Sequence[int]) -> dict[str, str]:
    """Variables that keep Open MPI's ranks to these CPUs: it binds by the node's topology, not by the affinity it inherits."""
    if not cpus:
        return {"OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none"}
    text = ",".join(map(str, cpus))
    return {"OMPI_MCA_hwloc_base_cpu_list": text, "PRTE_MCA_hwloc_default_cpu_list": text}


def cancel_steps(token: str, environment: Mapping[str, str], within: float = 60.0) -> list[str]:
    """Kill the steps of an attempt that its `srun` has left behind, and wait until they are gone; their ids.

    Parameters:
        token: the attempt's, or what those of all attempts of a worker begin with, up to a colon.
        environment: of a process in the job; the components of a heterogeneous one are jobs of their own.
        within: seconds to wait at most.
    """
    jobs = {
        value
        for name, value in environment.items()
        if name == "SLURM_JOB_ID" or name.startswith("SLURM_JOB_ID_HET_GROUP_")
    }
    deadline = time.monotonic() + within
    killed: dict[str, None] = {}
    while jobs:
        listed = _ask(
            environment, "squeue", "--steps", "--noheader", f"--jobs={','.join(sorted(jobs))}", "--format=%i %j"
        )
        steps = parse_steps(listed, token)
        if not steps or time.monotonic() > deadline:
            break
        killed |= dict.fromkeys(steps)
        # Not SIGTERM first: who gets here has had that, or its run command was killed.
        _ask(environment, "scancel", "--quiet", "--signal=KILL", *steps)
        time.sleep(0.5)
    return list(killed)


def parse_steps(text: str, token: str) -> list[str]:
    """Ids of the steps of one name in what `squeue --steps --format="%i %j"` prints.

    A name that ends with a colon stands for all that begin so.
    """
    rows = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    named = ((row[0], row[1].strip()) for row in rows if len(row) == 2)
    return [step for step, name in named if name == token or (token.endswith(":") and name.startswith(token))]


def job_is_ending(job_id: str, environment: Mapping[str, str]) -> bool | None:
    """Whether Slurm is ending the job: its steps die before its worker is told. None: Slurm does not answer."""
    command = ("squeue", "--noheader", f"--jobs={job_id}", "--Format=State:20,PreemptTime:25")
    done = _run(environment, *command)
    return None if done is None else parse_ending(done.returncode, done.stdout, done.stderr)


def parse_ending(returncode: int, out: str, err: str) -> bool | None:
    """What `squeue --Format=State:20,PreemptTime:25` says of a job: whether it ends or has ended; None: nothing.

    A job that makes room for a more urgent one stays RUNNING for the partition's grace time; its steps have been told to end.
    """
    if returncode:
        # Of a job that has long ended nothing is known any more.
        return True if "Invalid job id" in err else None
    state, preempted = (*out.split(), "", "")[:2]
    return state not in ("RUNNING", "CONFIGURING", "SUSPENDED") or preempted not in ("", "N/A")


@functools.lru_cache(maxsize=32)
def mpi_flavour(launcher: str) -> str:
    """Whose the MPI launcher at this path is: `mpich`, or `openmpi` when it does not say."""
    if "hydra" in _ask(os.environ, launcher, "--version").lower():
        return "mpich"
    # Several Open MPI launchers that start at once race to make this folder, and the losers fail: keep it there.
    with suppress(OSError):
        base = Path(tempfile.gettempdir()) / f"ompi.{socket.gethostname().split('.')[0]}.{os.getuid()}"
        base.mkdir(mode=0o700, exist_ok=True)
        (base / "taskensemble").mkdir(exist_ok=True)
    return "openmpi"


def _ask(environment: Mapping[str, str], program: str, *arguments: str) -> str:
    """What a program prints; empty when it is not there or does not answer in time."""
    done = _run(environment, program, *arguments)
    return "" if done is None else done.stdout


def _run(environment: Mapping[str, str], program: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    found = shutil.which(program, path=environment.get("PATH"))
    if not found:
        return None
    try:
        return subprocess.run(
            [found, *arguments], env=dict(environment), capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _fits(node: _Free, wanted: ResourcesRecord) -> bool:
    if wanted.whole_node:
        return node.idle and node.node.cpus >= wanted.cpus and node.node.gpus >= wanted.gpus
    return len(node.cpus) >= wanted.cpus and len(_roomy_gpus(node, wanted)) >= _gpu_count(wanted)


def _share(node: _Free, wanted: ResourcesRecord) -> Share:
    cpus, gpus = sorted(node.cpus), _roomy_gpus(node, wanted)
    if not wanted.whole_node:
        cpus, gpus = cpus[: wanted.cpus], gpus[: _gpu_count(wanted)]
    return Share(node.node.name, tuple(cpus), tuple(gpus))


def _spread(candidates: Sequence[_Free], cpus: int) -> list[Share] | None:
    """Shares of as few nodes as can be."""
    shares = []
    for node in sorted(candidates, key=lambda node: -len(node.cpus)):
        part = min(cpus, len(node.cpus))
        if part:
            shares.append(Share(node.node.name, tuple(sorted(node.cpus)[:part])))
            cpus -= part
        if cpus == 0:
            return shares
    return None


def _gpu_count(wanted: ResourcesRecord) -> int:
    return -int(-wanted.gpus // 1)


def _fraction(wanted: ResourcesRecord) -> float:
    return wanted.gpus if 0 < wanted.gpus < 1 else 1.0


def _roomy_gpus(node: _Free, wanted: ResourcesRecord) -> list[int]:
    """GPUs of a node that have room, the fullest first."""
    fraction = _fraction(wanted)
    return sorted((gpu for gpu, left in node.gpus.items() if left >= fraction - 1e-9), key=lambda gpu: node.gpus[gpu])


def _srun_options(
    command: CommandRecord, placement: Placement, allocation: AllocationRecord, attempt_id: str
) -> list[str]:
    head = command.head if command.launcher == "srun" else ()
    name = f"--job-name={attempt_id}"
    if _given(head, "--jobid"):
        return [name]
    options = ["--exact", name]
    groups = [number for number, names in enumerate(allocation.components()) if set(names) & set(placement.hosts)]
    if len(groups) > 1:
        # srun takes each option for every component: which nodes and what of them it gets there is left to Slurm.
        return options
    if allocation.het_groups and not _given(head, "--het-group"):
        options.append(f"--het-group={groups[0]}")
    if not _given(head, "--nodelist", "-w"):
        options.append(f"--nodelist={','.join(placement.hosts)}")
    if not _given(head, "--nodes", "-N"):
        options.append(f"--nodes={len(placement.shares)}")
    if command.tail:
        return options
    tasks = command.tasks or (command.tasks_per_node or 1) * len(placement.shares)
    if not _given(head, "--ntasks", "-n"):
        options.append(f"--ntasks={tasks}")
    if not _given(head, "--cpus-per-task", "-c"):
        held = sum(len(share.cpus) for share in placement.shares)
        options.append(f"--cpus-per-task={max(1, held // tasks)}")
    return [*options, *_srun_shares(head, placement, allocation)]


def _srun_shares(head: Sequence[str], placement: Placement, allocation: AllocationRecord) -> list[str]:
    """Memory and GPUs of a step: it takes its nodes' whole ones unless told otherwise, and the next step would wait for them."""
    options = []
    share = placement.shares[0]
    if allocation.memory_mb and not _given(head, "--mem", "--mem-per-cpu", "--mem-per-gpu"):
        node = next(node for node in allocation.nodes if node.name == share.node)
        options.append(f"--mem={placement.memory_mb or allocation.memory_mb * len(share.cpus) // max(1, node.cpus)}M")
    if any(node.gpus for node in allocation.nodes) and not _given(head, "--gres", "--gpus", "--gpus-per-node", "-G"):
        options.append(f"--gres=gpu:{len(share.gpus)}" if share.gpus else "--gres=none")
    return options


def _mpi(
    command: CommandRecord, placement: Placement, *, slurm: bool, exported: Iterable[str]
) -> tuple[list[str], dict[str, str]]:
    flavour = mpi_flavour(command.head[0])
    tasks = [max(1, len(share.cpus) // (command.cpus_per_task or 1)) for share in placement.shares]
    options: list[str] = []
    environment: dict[str, str] = {}
    if slurm:
        counts, hosts = ",".join(map(str, tasks)), ",".join(placement.hosts)
        environment = {
            **{f"SLURM_{name}": hosts for name in ("NODELIST", "JOB_NODELIST")},
            **{f"SLURM_{name}": str(len(tasks)) for name in ("NNODES", "JOB_NUM_NODES")},
            **{f"SLURM_{name}": counts for name in ("TASKS_PER_NODE", "JOB_CPUS_PER_NODE")},
            **{f"SLURM_{name}": str(sum(tasks)) for name in ("NTASKS", "NPROCS")},
            # The launcher's own daemons are steps, which must not wait for those of other members.
            "SLURM_OVERLAP": "1",
            "SLURM_MEM_PER_NODE": "0",
        }
    elif not _given(command.head, "--host", "-hosts", "--hostfile", "-f"):
        hosts = ",".join(f"{share.node}:{count}" for share, count in zip(placement.shares, tasks, strict=True))
        options += ["-hosts" if flavour == "mpich" else "--host", hosts]
    if flavour == "openmpi":
        for name in exported:
            options += ["-x", name]
    return options, environment


def _cores(placement: Placement, node_cpus: Sequence[int]) -> list[int]:
    share = placement.shares[0]
    if any(other.cpus != share.cpus for other in placement.shares) or max(share.cpus, default=0) >= len(node_cpus):
        return []
    return [node_cpus[cpu] for cpu in share.cpus]


def _given(head: Sequence[str], *options: str) -> bool:
    return any(item == option or item.startswith(f"{option}=") for item in head for option in options)
