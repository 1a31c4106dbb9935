"""Facts about the allocation that this process is in, whatever scheduler gave it: hosts, queue, tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping

from taskensemble.engine.allocation import AllocationRecord, expand_counts, expand_hostlist, of_this_process
from taskensemble.errors import AllocationError, UnsupportedError
from taskensemble.settings import detect_launcher

__all__ = ["current_allocation", "detect_launcher", "get_hosts", "get_queue", "get_tasks", "get_tasks_per_node"]

_LAUNCHERS = {"slurm": "slurm", "pbs": "pbs", "pals": "pbs", "lsf": "lsf", "sge": "sge"}
_QUEUES = {"slurm": "SLURM_JOB_PARTITION", "pbs": "PBS_QUEUE", "lsf": "LSB_QUEUE", "sge": "QUEUE"}


def current_allocation() -> AllocationRecord | None:
    """The allocation that this process is in, with its nodes; None: it is in none."""
    return of_this_process()


def get_hosts(launcher: str | None = None) -> list[str]:
    """Names of the allocation's nodes.

    Raises:
        UnsupportedError: a launcher without allocations.
        AllocationError: this process is in no allocation of that launcher.
    """
    hosts = _allocation(launcher).hosts
    return sorted({host.partition(".")[0] for host in hosts}) if _scheduler(launcher) == "pbs" else hosts


def get_queue(launcher: str | None = None) -> str:
    """Name of the queue (Slurm: partition) that the allocation came from.

    Raises:
        UnsupportedError, AllocationError: as `get_hosts`.
    """
    variable = _QUEUES[_scheduler(launcher)]
    if not os.environ.get(variable):
        raise AllocationError(f"{variable} is not set: this process is in no allocation of {_scheduler(launcher)}")
    return os.environ[variable]


def get_tasks(launcher: str | None = None) -> int:
    """Tasks that the allocation was asked for; where the scheduler counts only CPUs, its CPUs.

    Raises:
        UnsupportedError, AllocationError: as `get_hosts`.
    """
    return sum(get_tasks_per_node(launcher).values())


def get_tasks_per_node(launcher: str | None = None) -> dict[str, int]:
    """Tasks of each node of the allocation.

    Raises:
        UnsupportedError, AllocationError: as `get_hosts`.
    """
    allocation = _allocation(launcher)
    if allocation.scheduler == "slurm":
        return _slurm_tasks(os.environ) or {node.name: node.cpus for node in allocation.nodes}
    return {node.name: node.cpus for node in allocation.nodes}


def _slurm_tasks(environment: Mapping[str, str]) -> dict[str, int]:
    nodes = environment.get("SLURM_JOB_NODELIST") or ""
    counts = environment.get("SLURM_TASKS_PER_NODE") or ""
    names = expand_hostlist(nodes)
    tasks = expand_counts(counts) if counts else []
    return dict(zip(names, tasks, strict=True)) if len(names) == len(tasks) else {}


def _scheduler(launcher: str | None) -> str:
    chosen = detect_launcher() if launcher is None else launcher.lower()
    if chosen not in _LAUNCHERS:
        raise UnsupportedError(f"launcher={chosen!r} has no allocations to look at; use one of {', '.join(_LAUNCHERS)}")
    return _LAUNCHERS[chosen]


def _allocation(launcher: str | None) -> AllocationRecord:
    wanted = _scheduler(launcher)
    found = current_allocation()
    if found is None or found.scheduler != wanted:
        raise AllocationError(
            f"This process is in no allocation of {wanted}: start it with salloc, qsub -I or bsub -Is"
        )
    return found
