"""Slots: which CPUs, GPUs and memory of a node a member holds. Bookkeeping, no system calls but for the clock."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from taskensemble.engine.records import ResourcesRecord


@dataclass(frozen=True)
class Slot:
    """What one running member holds."""

    cpus: tuple[int, ...]
    gpus: tuple[tuple[str, float], ...] = ()
    """Each GPU with the share of it."""
    memory_mb: int = 0
    whole_node: bool = False
    blind: bool = False
    """It holds no GPU, and is to see none of its node's: they are given to others."""


@dataclass(frozen=True)
class Stay:
    """Where a worker is, and for how long.

    Attributes:
        job: id of the scheduler's job that it is in; empty: in none.
        lifetime: seconds that it had when it began; None: no end is known.
        ends: when it ends, on the monotonic clock.
    """

    job: str = ""
    lifetime: float | None = None
    ends: float = math.inf

    @property
    def left(self) -> float | None:
        """Seconds until its end; None: no end is known."""
        return None if self.lifetime is None else max(0.0, self.ends - time.monotonic())

    def allows(self, wanted: ResourcesRecord) -> bool:
        """Whether a member may begin here now; once it may not for want of time, it never may again."""
        left = self.left
        return (bool(self.job) or not wanted.allocated) and (left is None or wanted.time <= left)


@dataclass
class Node:
    """What a worker may give to members.

    Attributes:
        cpus: CPU numbers, one for each slot; numbers of a simulated node need not exist.
        gpus: identifiers as CUDA_VISIBLE_DEVICES wants them.
        memory_mb: MiB; 0: not counted.
        tags: what members may ask for by name.
        gpus_are_named: whether somebody named the GPUs for this worker: members that ask for none then see none.
        stay: in which job it is, and until when.
    """

    cpus: tuple[int, ...]
    gpus: tuple[str, ...] = ()
    memory_mb: int = 0
    tags: tuple[str, ...] = ()
    gpus_are_named: bool = False
    stay: Stay = field(default_factory=Stay)
    _free: list[int] = field(default_factory=list)
    _gpu_free: dict[str, float] = field(default_factory=dict)
    _memory_free: int = 0
    _whole: bool = False

    def __post_init__(self) -> None:
        self._free = sorted(self.cpus)
        self._gpu_free = dict.fromkeys(self.gpus, 1.0)
        self._memory_free = self.memory_mb

    @property
    def kinds(self) -> tuple[tuple[int, int, int], ...]:
        """Nothing: a worker's slots and GPUs say what its one node has."""
        return ()

    @property
    def free(self) -> int:
        """CPUs that no member holds."""
        return 0 if self._whole else len(self._free)

    @property
    def idle(self) -> bool:
        """Whether no member holds anything."""
        return len(self._free) == len(self.cpus) and not self._whole

    def could_ever(self, wanted: ResourcesRecord) -> bool:
        """Whether an idle node has what is wanted, and time enough."""
        if not self.stay.allows(wanted):
            return False
        if not set(wanted.tags) <= set(self.tags) or wanted.cpus > len(self.cpus) or wanted.nodes > 1:
            return False
        if wanted.memory_mb and self.memory_mb and wanted.memory_mb > self.memory_mb:
            return False
        return wanted.gpus <= len(self.gpus)

    def fits(self, wanted: ResourcesRecord) -> int:
        """How many members of this kind would find a place now."""
        if not self.could_ever(wanted):
            return 0
        if wanted.whole_node or self._whole:
            return int(self.idle)
        room = len(self._free) // max(1, wanted.cpus)
        if wanted.memory_mb and self.memory_mb:
            room = min(room, self._memory_free // wanted.memory_mb)
        if wanted.gpus >= 1:
            room = min(
                room, int(sum(1 for share in self._gpu_free.values() if share >= 1.0) // int(-(-wanted.gpus // 1)))
            )
        elif wanted.gpus > 0:
            room = min(room, sum(int(share / wanted.gpus + 1e-9) for share in self._gpu_free.values()))
        return room

    def allocate(self, wanted: ResourcesRecord) -> Slot | None:
        """Takes a slot; None when there is no room now."""
        if self.fits(wanted) < 1:
            return None
        if wanted.whole_node:
            slot = Slot(tuple(self._free), tuple((gpu, 1.0) for gpu in self.gpus), self.memory_mb, whole_node=True)
            self._whole = True
        else:
            gpus = self._choose_gpus(wanted.gpus)
            blind = self.gpus_are_named and not gpus
            slot = Slot(_neighbours(self._free, max(1, wanted.cpus)), gpus, wanted.memory_mb, blind=blind)
        taken = set(slot.cpus)
        self._free = [cpu for cpu in self._free if cpu not in taken]
        for gpu, share in slot.gpus:
            self._gpu_free[gpu] -= share
        self._memory_free -= slot.memory_mb if self.memory_mb else 0
        return slot

    def release(self, slot: Slot) -> None:
        """Gives a slot back."""
        self._free = sorted([*self._free, *slot.cpus])
        for gpu, share in slot.gpus:
            self._gpu_free[gpu] = min(1.0, self._gpu_free[gpu] + share)
        self._memory_free += slot.memory_mb if self.memory_mb else 0
        if slot.whole_node:
            self._whole = False

    def _choose_gpus(self, wanted: float) -> tuple[tuple[str, float], ...]:
        if wanted <= 0:
            return ()
        if wanted < 1:
            # The fullest GPU that still has room, so that whole ones stay whole.
            _, gpu = min((share, gpu) for gpu, share in self._gpu_free.items() if share >= wanted - 1e-9)
            return ((gpu, wanted),)
        whole = [gpu for gpu, share in self._gpu_free.items() if share >= 1.0]
        return tuple((gpu, 1.0) for gpu in whole[: int(-(-wanted // 1))])


def _neighbours(free: list[int], count: int) -> tuple[int, ...]:
    """CPUs that lie together, if there are any: they share caches."""
    for start in range(len(free) - count + 1):
        if free[start + count - 1] - free[start] == count - 1:
            return tuple(free[start : start + count])
    return tuple(free[:count])
