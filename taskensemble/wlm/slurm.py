"""Slurm from a driver: ask for an allocation, give it back, look at partitions."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from taskensemble.errors import AllocationError, InputError, LauncherError, ReservedKeywordError, ShellError
from taskensemble.settings.arguments import OptionValue, clock, gnu_options
from taskensemble.wlm import get_hosts as _get_hosts
from taskensemble.wlm import get_queue as _get_queue
from taskensemble.wlm import get_tasks as _get_tasks
from taskensemble.wlm import get_tasks_per_node as _get_tasks_per_node

_OWN = {"t", "time", "N", "nodes", "A", "account"}


class PartitionNode(NamedTuple):
    """A node of a partition and how many CPUs it has."""

    name: str
    cpus: int


def get_allocation(
    nodes: int = 1,
    time: str | None = None,
    account: str | None = None,
    options: Mapping[str, OptionValue] | None = None,
) -> str:
    """Ask Slurm for an allocation, and wait for it.

    Parameters:
        nodes: its nodes.
        time: how long, as HH:MM:SS; None: the partition's default.
        account: the account that pays.
        options: further options of `salloc`, without dashes; None: an option without a value.

    Returns:
        The allocation's id, for `SrunSettings(alloc=…)` and `release_allocation`.

    Raises:
        LauncherError: there is no `salloc`.
        ReservedKeywordError: `options` has nodes, time or account.
        InputError: `time` is no HH:MM:SS.
        AllocationError: Slurm refuses.
    """
    command = allocation_command(nodes, time, account, options)
    answer = _run("salloc", *command[1:], check=False)
    found = parse_salloc(answer.stderr)
    if found is None:
        raise AllocationError(f"nodes={nodes}: {parse_salloc_error(answer.stderr) or 'salloc gave no allocation'}")
    return found


def release_allocation(alloc_id: str) -> None:
    """Give an allocation back.

    Raises:
        LauncherError: there is no `scancel`.
        AllocationError: Slurm refuses; it may have ended already.
    """
    answer = _run("scancel", str(alloc_id), check=False)
    if answer.returncode:
        raise AllocationError(f"alloc_id={alloc_id!r} could not be released: {answer.stderr.strip()}")


def validate(nodes: int = 1, ppn: int = 1, partition: str | None = None) -> bool:
    """Whether a partition has so many nodes with so many CPUs, busy ones counted.

    Parameters:
        nodes: how many nodes.
        ppn: processes, thus CPUs, on each.
        partition: None or "default": the default one.

    Raises:
        LauncherError: Slurm's commands are missing, or it has no such partition.
    """
    name = get_default_partition() if partition in (None, "default") else str(partition)
    known = partitions()
    if name not in known:
        raise LauncherError(
            f"partition={name!r} is not found on this system; it has {', '.join(sorted(known)) or 'none'}"
        )
    return sum(node.cpus >= ppn for node in known[name]) >= nodes


def partitions() -> dict[str, set[PartitionNode]]:
    """Nodes by partition, busy ones too.

    Raises:
        LauncherError: Slurm's commands are missing.
    """
    return parse_partitions(_run("sinfo", "--noheader", "--format", "%R %n %c").stdout)


def get_default_partition() -> str:
    """Name of the default partition.

    Raises:
        LauncherError: there is none.
    """
    name = parse_default_partition(_run("sinfo", "--noheader", "--format", "%P").stdout)
    if name is None:
        raise LauncherError("Slurm has no default partition: give partition=")
    return name


def get_hosts() -> list[str]:
    """Names of the allocation's nodes."""
    return _get_hosts("slurm")


def get_queue() -> str:
    """The allocation's partition."""
    return _get_queue("slurm")


def get_tasks() -> int:
    """Tasks of the allocation."""
    return _get_tasks("slurm")


def get_tasks_per_node() -> dict[str, int]:
    """Tasks of each node of the allocation."""
    return _get_tasks_per_node("slurm")


def allocation_command(
    nodes: int = 1,
    time: str | None = None,
    account: str | None = None,
    options: Mapping[str, OptionValue] | None = None,
) -> list[str]:
    """The command line that asks for an allocation; see `get_allocation`."""
    wanted = dict(options or {})
    if taken := sorted(_OWN & set(wanted)):
        raise ReservedKeywordError(
            f"options={taken} are arguments of their own: give time=, nodes= and account= instead"
        )
    command = ["salloc", "--no-shell", "-N", str(nodes), "-J", "taskensemble"]
    if time:
        command += ["-t", _clock(time)]
    if account:
        command += ["-A", str(account)]
    return [*command, *gnu_options(wanted)]


def parse_salloc(text: str) -> str | None:
    """The allocation's id in what `salloc` prints as errors."""
    found = re.search(r"Granted job allocation (\d+)", text)
    return found[1] if found else None


def parse_salloc_error(text: str) -> str | None:
    """Why `salloc` gave nothing: its first error, the cause of the others; without one, the first thing that it said."""
    for pattern in (r"salloc: error: (.+)", r"salloc: (.+)"):
        if found := re.search(pattern, text):
            return found[1].strip()
    return None


def parse_partitions(text: str) -> dict[str, set[PartitionNode]]:
    """Nodes by partition in what `sinfo --format "%R %n %c"` prints."""
    known: dict[str, set[PartitionNode]] = {}
    for line in text.splitlines():
        if line.strip():
            name, node, cpus = line.split()
            known.setdefault(name, set()).add(PartitionNode(node, int(cpus.rstrip("+"))))
    return known


def parse_default_partition(text: str) -> str | None:
    """The name with the star in what `sinfo --format %P` prints."""
    return next((line.strip().rstrip("*") for line in text.splitlines() if line.strip().endswith("*")), None)


def _clock(time: str) -> str:
    try:
        hours, minutes, seconds = (int(part) for part in time.split(":"))
    except ValueError as error:
        raise InputError(f"time={time!r} must be formatted as HH:MM:SS with whole numbers") from error
    return clock(hours * 3600 + minutes * 60 + seconds)


def _run(program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    found = shutil.which(program)
    if found is None:
        raise LauncherError(f"{program} is not on PATH: Slurm's commands are needed on the machine of the driver")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise ShellError(f"{program} exited {done.returncode}: {done.stderr.strip()}")
    return done
