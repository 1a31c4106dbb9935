"""Allocations of Slurm: obtained, released, looked at."""

from __future__ import annotations

from collections.abc import Mapping

from taskensemble.settings.arguments import OptionValue
from taskensemble.wlm.slurm import (
    allocation_command,
    get_allocation,
    get_default_partition,
    get_hosts,
    get_queue,
    get_tasks,
    get_tasks_per_node,
    release_allocation,
    validate,
)


def _get_alloc_cmd(
    nodes: int, time: str | None, account: str | None, options: Mapping[str, OptionValue] | None = None
) -> list[str]:
    """The arguments of `salloc` for an allocation that is named as SmartSim names its own."""
    arguments = allocation_command(nodes, time, account, options)[1:]
    arguments[arguments.index("-J") + 1] = "SmartSim"
    return arguments


__all__ = [
    "get_allocation",
    "get_default_partition",
    "get_hosts",
    "get_queue",
    "get_tasks",
    "get_tasks_per_node",
    "release_allocation",
    "validate",
]
