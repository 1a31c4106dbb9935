"""Allocations of Slurm: obtained, released, looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from taskensemble.settings.arguments import OptionValue
from taskensemble.wlm.slurm import (
    allocation_command,
    get_allocation,
    get_default_partition,
    get_hosts,
    get_queue,
    get_tasks,
    get_tasks_per_node,
    partitions,
    release_allocation,
    validate,
)


class ComputeNode(NamedTuple):
    """A node of a partition.

    Attributes:
        name: of the node.
        ppn: its CPUs.
    """

    name: str | None = None
    ppn: int | None = None

    def _is_valid_node(self) -> bool:
        return bool(self.name) and bool(self.ppn)


@dataclass(frozen=True)
class Partition:
    """A partition and its nodes."""

    name: str
    nodes: frozenset[ComputeNode]

    def _is_valid_partition(self) -> bool:
        return bool(self.name) and bool(self.nodes) and all(node._is_valid_node() for node in self.nodes)


def _get_alloc_cmd(
    nodes: int, time: str | None, account: str | None, options: Mapping[str, OptionValue] | None = None
) -> list[str]:
    """The arguments of `salloc` for an allocation that is named as SmartSim names its own."""
    arguments = allocation_command(nodes, time, account, options)[1:]
    arguments[arguments.index("-J") + 1] = "SmartSim"
    return arguments


def _get_system_partition_info() -> dict[str, Partition]:
    """The partitions by name; see `taskensemble.wlm.slurm.partitions`."""
    return {
        name: Partition(name, frozenset(ComputeNode(node.name, node.cpus) for node in nodes))
        for name, nodes in partitions().items()
    }


__all__ = [
    "ComputeNode",
    "Partition",
    "get_allocation",
    "get_default_partition",
    "get_hosts",
    "get_queue",
    "get_tasks",
    "get_tasks_per_node",
    "release_allocation",
    "validate",
]
