"""Workers that end by themselves: without work, or after a stated time."""

from __future__ import annotations

from pathlib import Path

from tests.integration.engine.plane import Plane, until
from tests.integration.engine.runs import one_entity


def test_a_worker_without_work_ends_and_one_that_runs_members_does_not(plane: Plane, tmp_path: Path) -> None:
    run, members = one_entity(tmp_path, ["/bin/sleep", "3"])
    plane.start(run, members)
    worker = plane.worker("--slots", "1", "--idle-timeout", "2")
    assert plane.finish(run.run_id).completed == 1
    assert plane.store.attempts(run.run_id)[0].attempt == 1
    assert worker.wait(30) == 0
    assert plane.store.workers() == []


def test_a_worker_whose_time_is_over_gives_back_what_it_runs(plane: Plane, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    program = 'echo >> "$0"; if [ "$TASKENSEMBLE_ATTEMPT" = 1 ]; then sleep 600; fi'
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", program, str(begun)])
    plane.start(run, members)
    worker = plane.worker("--slots", "1", "--time-limit", "6", "--drain", "0")
    until(begun.exists, "the program runs")
    assert worker.wait(40) == 0
    plane.worker("--slots", "1")
    assert plane.finish(run.run_id).completed == 1
    assert plane.store.attempts(run.run_id)[0].attempt == 2
