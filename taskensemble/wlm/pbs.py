"""PBS from a driver: the allocation that it is in."""

from __future__ import annotations

from taskensemble.wlm import get_hosts as _get_hosts
from taskensemble.wlm import get_queue as _get_queue
from taskensemble.wlm import get_tasks as _get_tasks
from taskensemble.wlm import get_tasks_per_node as _get_tasks_per_node


def get_hosts() -> list[str]:
    """Names of the allocation's nodes."""
    return _get_hosts("pbs")


def get_queue() -> str:
    """The allocation's queue."""
    return _get_queue("pbs")


def get_tasks() -> int:
    """CPUs of the allocation."""
    return _get_tasks("pbs")


def get_tasks_per_node() -> dict[str, int]:
    """CPUs of each node of the allocation."""
    return _get_tasks_per_node("pbs")
