"""Whether registered workers could ever run what waits, and what they lack. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from taskensemble.engine.records import EntityRecord, ResourcesRecord, RunRecord, WorkerRecord


class NodeKind(NamedTuple):
    """Nodes of one kind that a worker has."""

    nodes: int
    cpus: int
    gpus: int


def node_kinds(worker: WorkerRecord) -> list[NodeKind]:
    """What a worker has: one node, or those of its allocation."""
    return [NodeKind(*kind) for kind in worker.nodes] or [NodeKind(1, worker.slots, len(worker.gpus))]


def time_left(worker: WorkerRecord) -> float:
    """Seconds until the worker ends by itself or with its job; infinite where no end is known."""
    return math.inf if worker.left is None else max(0.0, worker.left - worker.age)


def capacity(worker: WorkerRecord, wanted: ResourcesRecord) -> int:
    """How many members of a kind the idle worker holds at once."""
    if not set(wanted.tags) <= set(worker.tags) or (wanted.nodes > 1 and not worker.nodes):
        return 0
    if (wanted.allocated and not worker.job) or time_left(worker) < wanted.time:
        return 0
    kinds = node_kinds(worker)
    total = sum(kind.nodes * _on_node(kind, wanted) for kind in kinds)
    if worker.nodes and wanted.nodes == 1 and not wanted.whole_node and not total:
        # A member of MPI ranks is spread over nodes that are too small for it.
        total = sum(kind.nodes * kind.cpus for kind in kinds) // max(1, wanted.cpus)
    if wanted.memory_mb and worker.memory_mb:
        total = min(total, worker.memory_mb // wanted.memory_mb)
    return total // max(1, wanted.nodes)


def _on_node(kind: NodeKind, wanted: ResourcesRecord) -> int:
    room = kind.cpus // max(1, wanted.cpus)
    if wanted.gpus >= 1:
        room = min(room, kind.gpus // int(-(-wanted.gpus // 1)))
    elif wanted.gpus > 0:
        room = min(room, kind.gpus * int(1 / wanted.gpus + 1e-9))
    return min(room, 1) if wanted.whole_node else room


def lacks(workers: Iterable[WorkerRecord], wanted: ResourcesRecord, batch_queue: str = "", *, at_once: int = 1) -> str:
    """What the workers lack to ever run members of a kind, as `status` says it; empty: nothing.

    Arguments:
        workers: those that are registered; the ones that have not been heard of for a lease do not count.
        batch_queue: the queue that a worker must serve.
        at_once: how many members run at the same time or not at all.
    """
    alive = [worker for worker in workers if worker.age <= worker.lease]
    if not alive:
        return "a worker; none is registered"
    serving = [worker for worker in alive if worker.queue == batch_queue]
    if not serving:
        return (
            f"its batch job to begin; no worker of its queue {batch_queue} is registered"
            if batch_queue
            else _ONLY_BATCH
        )
    held = sum(capacity(worker, wanted) for worker in serving)
    if held >= at_once:
        return ""
    if held:
        return f"room for {at_once} members at once; the workers together have room for {held}"
    tagged = [worker for worker in serving if set(wanted.tags) <= set(worker.tags)]
    if not tagged:
        return f"a worker with the tags {', '.join(wanted.tags)}; no worker has them"
    if wanted.allocated:
        tagged = [worker for worker in tagged if worker.job]
        if not tagged:
            return _NO_JOB
    longest = max(map(time_left, tagged))
    if longest < wanted.time:
        return f"{_clock(wanted.time)} of an allocation; the one that lasts longest has {_clock(longest)} left"
    missing = [
        f"{amount:g} {unit}{'' if amount == 1 else plural}; the largest worker has {largest:g}"
        for amount, unit, plural, largest in _needs(tagged, wanted)
        if amount > largest
    ]
    return ", and ".join(missing) or "a worker that has all of it at once: " + _described(wanted)


_NO_JOB = (
    "a worker in an allocation; those that are registered are in none (`taskensemble scale`, `srun taskensemble worker` or a "
    "driver inside an allocation brings one)"
)
_ONLY_BATCH = "a worker; those that are registered serve batch queues alone"


def _needs(workers: Sequence[WorkerRecord], wanted: ResourcesRecord) -> list[tuple[float, str, str, float]]:
    def most(value: Callable[[WorkerRecord], float]) -> float:
        return max(value(worker) for worker in workers)

    whole = wanted.whole_node or wanted.nodes > 1
    cpus = most(lambda worker: (max if whole else sum)(_cpus(worker)))
    needs: list[tuple[float, str, str, float]] = [
        (wanted.cpus, "CPU", "s", cpus),
        (wanted.gpus, "GPU", "s", most(lambda worker: max(kind.gpus for kind in node_kinds(worker)))),
        (wanted.nodes, "node", "s", most(lambda worker: sum(kind.nodes for kind in node_kinds(worker)))),
    ]
    if all(worker.memory_mb for worker in workers):
        needs.append((wanted.memory_mb, "MiB of memory", "", most(lambda worker: worker.memory_mb)))
    return needs


def _cpus(worker: WorkerRecord) -> list[int]:
    return [kind.cpus for kind in node_kinds(worker) for _ in range(kind.nodes)] or [0]


def _clock(seconds: float) -> str:
    """`45 s`, `2:05 min`, `1:30:00 h`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02} h"
    return f"{minutes}:{rest:02} min" if minutes else f"{rest} s"


def _described(wanted: ResourcesRecord) -> str:
    parts = [f"{wanted.cpus} CPU{'' if wanted.cpus == 1 else 's'}"]
    if wanted.gpus:
        parts.append(f"{wanted.gpus:g} GPU{'' if wanted.gpus == 1 else 's'}")
    if wanted.memory_mb:
        parts.append(f"{wanted.memory_mb} MiB of memory")
    if wanted.nodes > 1:
        parts.append(f"on each of {wanted.nodes} nodes")
    return ", ".join(parts)


def lacks_of(run: RunRecord, entity: EntityRecord, templates: Iterable[int], workers: Sequence[WorkerRecord]) -> str:
    """What the workers lack to ever run all members of an entity, given their templates; empty: nothing."""
    chosen = [run.templates[number] for number in templates]
    at_once = entity.size if entity.together and len(chosen) == 1 else 1
    for template in chosen:
        lacking = lacks(workers, template.resources, template.batch_queue, at_once=at_once)
        if lacking:
            return lacking
    return ""
