"""What of this host a process may use: the CPUs that it may run on, and the limits of the control groups that it is in; and which
process of this host a pid is.

Version 2    <mount>/<group>/cpu.max (`200000 100000`: two CPUs), memory.max (bytes, or `max`)
Version 1    <mount>/cpu/<group>/cpu.cfs_quota_us and cpu.cfs_period_us, <mount>/memory/<group>/memory.limit_in_bytes

A group is limited by those above it too. A container sees its own group as the root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MOUNT = Path("/sys/fs/cgroup")
GROUPS = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 writes a number above this where there is no limit."""


def usable_cpus(mount: Path = MOUNT, groups: Path = GROUPS) -> int:
    """CPUs that this process may keep busy: those that it may run on, or as many whole ones as its groups' quota has."""
    quotas = [quota for quota in map(_quota, _folders("cpu", mount, groups)) if quota]
    return min([len(os.sched_getaffinity(0)), *(max(1, int(quota)) for quota in quotas)])


def usable_memory_mb(mount: Path = MOUNT, groups: Path = GROUPS) -> int:
    """MiB of memory: the host's, or what its groups leave of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for limit in map(_memory, _folders("memory", mount, groups)) if limit]
    return min([total, *limits]) >> 20


def _folders(controller: str, mount: Path, groups: Path) -> Iterator[Path]:
    """The folders of this process's group and of those above it, of both versions."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base = mount
        elif controller in controllers.split(","):
            base = mount / controller
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        for each in (group, *group.parents):
            yield base / each


def _quota(folder: Path) -> float | None:
    """CPUs that a group may use; None: not limited."""
    given = _words(folder / "cpu.max") or [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
    if len(given) != 2 or given[0] == "max" or int(given[0]) < 0:
        return None
    return int(given[0]) / int(given[1])


def _memory(folder: Path) -> int | None:
    """Bytes that a group may use; None: not limited."""
    given = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
    if not given or given[0] == "max" or int(given[0]) >= _UNLIMITED:
        return None
    return int(given[0])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def start_time(pid: int) -> int:
    """When a process began, in clock ticks after boot; 0 when it has ended, a zombie included.

    A pid is given out again; with its start it names one process for ever.
    """
    try:
        # The command's name, in parentheses, may hold spaces: the fields after its end are safe to split.
        fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
