"""The autoscaler's decision: how many allocations to ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble.cli.scale import read_description
from taskensemble.errors import InputError
from taskensemble.launch.scale import Demand, to_submit


@pytest.mark.parametrize(
    ("demand", "limits", "wanted"),
    [
        (Demand(waiting=0, free=0, jobs=0, pending=0), (0, 10), 0),
        (Demand(waiting=0, free=0, jobs=0, pending=0), (2, 10), 2),
        (Demand(waiting=100, free=0, jobs=0, pending=0), (0, 10), 1),
        (Demand(waiting=100, free=0, jobs=1, pending=1), (0, 10), 0),
        (Demand(waiting=100, free=0, jobs=1, pending=0, slots=8), (0, 10), 9),
        (Demand(waiting=20, free=0, jobs=1, pending=0, slots=8), (0, 10), 3),
        (Demand(waiting=20, free=0, jobs=3, pending=2, slots=8), (0, 10), 1),
        (Demand(waiting=20, free=24, jobs=3, pending=0, slots=8), (0, 10), 0),
        (Demand(waiting=20, free=0, jobs=10, pending=0, slots=8), (0, 10), 0),
    ],
)
def test_allocations_follow_what_waits_within_limits(demand: Demand, limits: tuple[int, int], wanted: int) -> None:
    assert to_submit(demand, *limits) == wanted


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
