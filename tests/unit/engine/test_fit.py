"""What workers lack, in words."""

from __future__ import annotations

import pytest

from taskensemble.engine.fit import capacity, lacks
from taskensemble.engine.records import ResourcesRecord, WorkerRecord


def worker(slots: int = 4, **fields: object) -> WorkerRecord:
    known: dict[str, object] = {"name": "w", "host": "h", "pid": 1, "slots": slots, "free": slots, **fields}
    return WorkerRecord.model_validate(known)


ALLOCATION = worker(12, gpus=("n1:0", "n1:1"), nodes=((2, 4, 0), (1, 4, 2)))


@pytest.mark.parametrize(
    ("on", "wanted", "members"),
    [
        (worker(), {}, 4),
        (worker(), {"cpus": 3}, 1),
        (worker(), {"cpus": 5}, 0),
        (worker(gpus=("0", "1")), {"gpus": 1}, 2),
        (worker(gpus=("0", "1")), {"gpus": 0.5}, 4),
        (worker(gpus=("0", "1")), {"gpus": 0.1}, 4),
        (worker(memory_mb=100), {"memory_mb": 60}, 1),
        (worker(), {"memory_mb": 60}, 4),
        (worker(), {"whole_node": True}, 1),
        (worker(), {"nodes": 2}, 0),
        (worker(), {"tags": ("a",)}, 0),
        (worker(tags=("a", "b")), {"tags": ("a",)}, 4),
        (worker(), {"time": 100.0}, 4),
        (worker(left=101.0), {"time": 100.0}, 4),
        (worker(left=101.0, age=2.0), {"time": 100.0}, 0),
        (worker(), {"allocated": True}, 0),
        (worker(job="7"), {"allocated": True}, 4),
        (ALLOCATION, {"cpus": 4, "nodes": 2}, 1),
        (ALLOCATION, {"cpus": 4, "nodes": 3}, 1),
        (ALLOCATION, {"cpus": 12}, 1),
        (ALLOCATION, {"cpus": 13}, 0),
        (ALLOCATION, {"gpus": 1}, 2),
        (ALLOCATION, {"whole_node": True}, 3),
    ],
)
def test_an_idle_worker_holds_so_many_members(on: WorkerRecord, wanted: dict[str, object], members: int) -> None:
    assert capacity(on, ResourcesRecord.model_validate(wanted)) == members


@pytest.mark.parametrize(
    ("workers", "wanted", "batch", "at_once", "words"),
    [
        ([worker()], {}, "", 1, ""),
        ([], {}, "", 1, "a worker; none is registered"),
        ([worker(age=200.0)], {}, "", 1, "a worker; none is registered"),
        ([worker()], {}, "job", 1, "its batch job to begin; no worker of its queue job is registered"),
        ([worker(queue="job")], {}, "", 1, "a worker; those that are registered serve batch queues alone"),
        ([worker()], {"gpus": 2}, "", 1, "2 GPUs; the largest worker has 0"),
        (
            [worker(left=2.0), worker(left=2700.0)],
            {"time": 7200.0},
            "",
            1,
            "2:00:00 h of an allocation; the one that lasts longest has 45:00 min left",
        ),
        (
            [worker()],
            {"allocated": True},
            "",
            1,
            "a worker in an allocation; those that are registered are in none (`taskensemble scale`, `srun taskensemble worker` "
            "or a driver inside an allocation brings one)",
        ),
        (
            [worker(), worker(2)],
            {"cpus": 8, "gpus": 1},
            "",
            1,
            "8 CPUs; the largest worker has 4, and 1 GPU; the largest worker has 0",
        ),
        (
            [worker(8), worker(2, gpus=("0",))],
            {"cpus": 4, "gpus": 1},
            "",
            1,
            "a worker that has all of it at once: 4 CPUs, 1 GPU",
        ),
        ([worker()], {"tags": ("big", "fast")}, "", 1, "a worker with the tags big, fast; no worker has them"),
        ([worker(), worker()], {}, "", 8, ""),
        ([worker(), worker()], {}, "", 9, "room for 9 members at once; the workers together have room for 8"),
        ([worker()], {"nodes": 2}, "", 1, "2 nodes; the largest worker has 1"),
        ([worker(memory_mb=100)], {"memory_mb": 200}, "", 1, "200 MiB of memory; the largest worker has 100"),
    ],
)
def test_what_workers_lack_is_said_in_words(
    workers: list[WorkerRecord], wanted: dict[str, object], batch: str, at_once: int, words: str
) -> None:
    assert lacks(workers, ResourcesRecord.model_validate(wanted), batch, at_once=at_once) == words
