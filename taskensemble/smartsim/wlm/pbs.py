"""Facts about an allocation of PBS."""

from taskensemble.wlm.pbs import get_hosts, get_queue, get_tasks, get_tasks_per_node

__all__ = ["get_hosts", "get_queue", "get_tasks", "get_tasks_per_node"]
