"""Facts about the allocation that this process is in."""

from taskensemble.wlm import detect_launcher, get_hosts, get_queue, get_tasks, get_tasks_per_node

__all__ = ["detect_launcher", "get_hosts", "get_queue", "get_tasks", "get_tasks_per_node"]
