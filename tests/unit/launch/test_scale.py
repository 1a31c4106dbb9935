"""The autoscaler's decision: how many allocations to ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble.cli.scale import read_description
from taskensemble.engine.records import QueueRecord, ResourcesRecord, WorkerRecord
from taskensemble.errors import InputError
from taskensemble.launch.scale import Demand, to_submit, without_room


@pytest.mark.parametrize(
    ("demand", "limits", "wanted"),
    [
        (Demand(lacking=0, jobs=0, pending=0), (0, 10), 0),
        (Demand(lacking=0, jobs=0, pending=0), (2, 10), 2),
        (Demand(lacking=1, jobs=0, pending=0), (0, 10), 1),
        (Demand(lacking=1, jobs=1, pending=1), (0, 10), 0),
        (Demand(lacking=12.5, jobs=1, pending=0), (0, 10), 9),
        (Demand(lacking=2.5, jobs=1, pending=0), (0, 10), 3),
        (Demand(lacking=2.5, jobs=3, pending=2), (0, 10), 1),
        (Demand(lacking=0, jobs=3, pending=0), (0, 10), 0),
        (Demand(lacking=2.5, jobs=10, pending=0), (0, 10), 0),
    ],
)
def test_allocations_follow_what_waits_within_limits(demand: Demand, limits: tuple[int, int], wanted: int) -> None:
    assert to_submit(demand, *limits) == wanted


def worker(name: str, free: int, **rooms: int) -> WorkerRecord:
    return WorkerRecord(name=name, host="h", pid=1, slots=8, free=free, rooms=rooms)


def queue(name: str, **resources: float) -> QueueRecord:
    return QueueRecord(name=name, run="r", resources=ResourcesRecord(**resources))


def test_members_find_room_only_with_workers_that_have_what_they_want() -> None:
    plain, gpus = queue("plain"), queue("gpus", gpus=1)
    idle = worker("login", 8, plain=8)
    assert without_room({"plain": 5, "gpus": 3}, [plain, gpus], [idle]) == {"gpus": 3}
    assert without_room({"gpus": 3}, [plain, gpus], [idle, worker("node", 7, plain=7, gpus=2)]) == {"gpus": 1}


def test_room_that_several_queues_could_have_counts_once() -> None:
    small, large = queue("small"), queue("large", cpus=4)
    assert without_room({"small": 6, "large": 2}, [small, large], [worker("w", 8, small=8, large=2)]) == {"large": 2}
    assert without_room({"small": 4, "large": 1}, [small, large], [worker("w", 8, small=8, large=2)]) == {}


def test_an_allocation_is_described_in_toml(tmp_path: Path) -> None:
    path = tmp_path / "sbatch.toml"
    path.write_text(
        'launcher = "slurm"\nnodes = 2\ntime = "01:00:00"\npreamble = ["module load x"]\ntags = ["big"]\n'
        '[batch_args]\nexclusive = true\nqos = "low"\n'
    )
    described = read_description(path)
    assert described["tags"] == ["big"]
    assert set(described["record"].headers) >= {"#SBATCH --exclusive", "#SBATCH --qos=low", "#SBATCH --nodes=2"}
    assert described["record"].preamble == ("module load x",)
    path.write_text("nods = 2\n")
    with pytest.raises(InputError, match="nods"):
        read_description(path)
