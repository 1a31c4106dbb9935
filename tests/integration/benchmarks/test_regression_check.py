"""`make bench-check`: a ratio to a peer that has fallen by a quarter fails it."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from benchmarks import flat, side_by_side


@pytest.fixture(scope="module")
def found() -> dict[str, list[float]]:
    return side_by_side.ratios(40, 1, ["xargs"])


@pytest.mark.parametrize(("share", "fails"), [(1.0, False), (0.76, False), (0.74, True), (0.01, True)])
def test_a_ratio_may_fall_by_a_quarter_and_no_further(found: dict[str, list[float]], share: float, fails: bool) -> None:
    now = statistics.median(found["xargs"])
    assert side_by_side.check(found, {"xargs": now / share}) == int(fails)


def test_a_peer_of_the_baseline_that_did_not_run_fails(found: dict[str, list[float]]) -> None:
    assert side_by_side.check(found, {"xargs": 0.0, "hyperqueue": 1.3}) == 1


def test_the_command_fails_beside_a_baseline_that_is_out_of_reach(tmp_path: Path) -> None:
    doctored = tmp_path / "baseline.json"
    doctored.write_text(json.dumps({"xargs": 1000.0}))
    assert side_by_side.main(["40", "--rounds", "1", "--check", "--baseline", str(doctored)]) == 1


@pytest.mark.parametrize(("now", "fails"), [(1.0, False), (1.24, False), (1.26, True)])
def test_what_a_member_costs_may_rise_by_a_quarter_as_runs_grow_and_no_further(now: float, fails: bool) -> None:
    assert flat.check({"commands a member": now}, {"commands a member": 1.0}) == int(fails)


def test_what_grows_has_a_baseline_of_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "SIZE", 200)
    assert flat.figures().keys() == json.loads(flat.BASELINE.read_text()).keys()
