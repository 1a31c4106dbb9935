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


def test_a_worker_begins_no_member_that_needs_more_time_than_it_has_left_and_status_says_so(
    plane: Plane, tmp_path: Path
) -> None:
    run, members = one_entity(tmp_path, ["/bin/true"], resources={"time": 300.0})
    plane.worker("--slots", "1", "--time-limit", "100")
    plane.start(run, members)
    until(lambda: "5:00 min of an allocation" in plane.store.waits(run.run_id).get(0, ""), "the reason is told")
    assert plane.store.status(run.run_id).queued == 1
    plane.worker("--slots", "1", "--time-limit", "1000")
    assert plane.finish(run.run_id).completed == 1


def test_what_a_worker_has_fetched_goes_back_when_too_little_time_is_left_for_it(plane: Plane, tmp_path: Path) -> None:
    # Short members are fetched ahead: some wait in the worker when its time for them is over.
    program = 'sleep 0.3; echo $PPID >> "$0"'
    begun = tmp_path / "begun"
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", program, str(begun)], size=40, resources={"time": 100.0})
    plane.start(run, members)
    plane.worker("--slots", "1", "--time-limit", "104")
    until(
        lambda: plane.store.waits(run.run_id).get(0, "").startswith("waits for 1:40 min"), "the first has no time left"
    )
    assert 0 < plane.store.status(run.run_id).completed < 40
    plane.worker("--slots", "1")
    assert plane.finish(run.run_id).completed == 40
    assert {attempt.attempt for attempt in plane.store.attempts(run.run_id)} == {1}
