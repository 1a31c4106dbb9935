"""Faults on purpose: members run once to their end, whatever dies around them, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from taskensemble.engine.messages import QUEUE_PREFIX
from taskensemble.engine.records import State
from tests.integration.engine.plane import JOURNAL, Plane, alive, carriers, check_journal, journal, until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import Server


def ensemble(plane: Plane, size: int, seconds: float, *words: str) -> tuple[str, Path]:
    """Starts members that keep a journal; run and journal."""
    path = plane.folder / "journal"
    command = [sys.executable, "-c", JOURNAL, str(path), str(seconds), *words]
    run, members = one_entity(plane.folder, command, size, policy={"grace": 1.0})
    plane.start(run, members)
    return run.run_id, path


def guard_of(worker: int) -> int:
    """Pid of a worker's guard."""
    for text in Path(f"/proc/{worker}/task/{worker}/children").read_text().split():
        if b"te-guard" in Path(f"/proc/{text}/cmdline").read_bytes():
            return int(text)
    raise AssertionError("the worker has no guard")


def running_on(plane: Plane, run_id: str, name: str) -> int:
    """How many members of a run a worker runs."""
    records = plane.store.attempts(run_id)
    return sum(record.state is State.RUNNING and record.worker == name for record in records)


@pytest.mark.parametrize("victims", ["worker", "worker and guard"])
def test_a_killed_worker_takes_its_members_with_it_and_others_run_them(plane: Plane, victims: str) -> None:
    first = plane.worker("--slots", "2")
    run_id, path = ensemble(plane, 4, 2.0, "daemon")
    until(lambda: len([row for row in journal(path) if row[2] == "start"]) >= 2, "members run")
    second = plane.worker("--slots", "2")
    pids = carriers("TASKENSEMBLE_ATTEMPT_ID=w0:")
    guard = guard_of(first.pid)
    if victims != "worker":
        os.kill(guard, signal.SIGKILL)
    first.kill()
    killed = time.monotonic()
    until(lambda: not any(alive(pid) for pid in pids), "members of the dead worker, and their daemons, have ended", 20)
    status = plane.finish(run_id, 60)
    assert time.monotonic() - killed < 60
    assert status.completed == 4
    check_journal(path, 4)
    assert max(row[1] for row in journal(path)) == 2
    assert second.poll() is None
    until(lambda: [worker.name for worker in plane.store.workers()] == ["w1"], "the dead worker is forgotten")
    assert carriers(f"TASKENSEMBLE_RUN_ID={run_id}") == []
    assert not alive(guard)


def test_when_a_guard_is_killed_its_members_end_and_run_again(plane: Plane) -> None:
    worker = plane.worker("--slots", "2")
    run_id, path = ensemble(plane, 2, 1.5, "daemon")
    until(lambda: len(journal(path)) == 2, "members run")
    os.kill(guard_of(worker.pid), signal.SIGKILL)
    assert plane.finish(run_id).completed == 2
    check_journal(path, 2)
    assert {row[1] for row in journal(path) if row[2] == "end"} == {2}
    assert carriers(f"TASKENSEMBLE_RUN_ID={run_id}") == []


def test_all_workers_killed_at_once_the_next_one_goes_on(plane: Plane) -> None:
    workers = [plane.worker("--slots", "1") for _ in range(2)]
    run_id, path = ensemble(plane, 3, 1.0)
    until(lambda: len(journal(path)) == 2, "members run")
    for worker in workers:
        worker.kill()
    plane.worker("--slots", "2")
    assert plane.finish(run_id).completed == 3
    check_journal(path, 3)


def test_a_frozen_worker_loses_its_members_before_they_run_elsewhere(plane: Plane) -> None:
    frozen = plane.worker("--slots", "1", "--lease", "6")
    run_id, path = ensemble(plane, 1, 8.0)
    until(lambda: len(journal(path)) == 1, "the member runs")
    first = carriers(f"TASKENSEMBLE_RUN_ID={run_id}")
    plane.worker("--slots", "1", "--lease", "6")
    frozen.send_signal(signal.SIGSTOP)
    until(lambda: len([row for row in journal(path) if row[2] == "start"]) == 2, "it runs elsewhere", 60)
    assert not any(alive(pid) for pid in first)
    frozen.send_signal(signal.SIGCONT)
    assert plane.finish(run_id).completed == 1
    check_journal(path, 1)
    assert plane.store.attempts(run_id)[0].attempt >= 2
    until(lambda: plane.record("w0").age < 3, "the thawed worker is back")
    second, _ = ensemble(plane, 2, 0.1)
    assert plane.finish(second).completed == 2


def test_a_restarted_broker_costs_nothing(plane: Plane, broker: Server) -> None:
    plane.worker("--slots", "2", "--lease", "30")
    run_id, path = ensemble(plane, 8, 1.0)
    until(lambda: len(journal(path)) >= 2, "members run")
    broker.kill()
    time.sleep(2)  # the outage itself
    broker.start()
    status = plane.finish(run_id)
    assert (status.completed, status.failed) == (8, 0)
    check_journal(path, 8)
    assert {row[1] for row in journal(path)} == {1}


def test_a_message_that_was_lost_on_its_way_is_published_again(plane: Plane, broker: Server) -> None:
    client = broker.client()
    plane.worker("--slots", "1", "--lease", "8")
    run_id, path = ensemble(plane, 3, 1.0)
    until(lambda: len(journal(path)) >= 1, "a member runs")
    lost = [client.lpop(queue) for queue in client.keys(f"{QUEUE_PREFIX}*")]
    assert any(lost)
    assert plane.finish(run_id).completed == 3
    check_journal(path, 3)


def test_a_member_that_kills_its_worker_again_and_again_is_given_up(plane: Plane) -> None:
    run, members = one_entity(plane.folder, ["/bin/sh", "-c", "kill -9 $(ps -o ppid= -p $PPID); sleep 60"], 1)
    plane.start(run, members)
    for _ in range(12):
        worker = plane.worker("--slots", "1")
        until(lambda worker=worker: worker.poll() is not None or plane.store.status(run.run_id).state.final, "it dies")  # type: ignore[misc]
        if plane.store.status(run.run_id).state.final:
            break
    assert plane.finish(run.run_id).state is State.FAILED
    assert "lost its worker 10 times" in plane.store.attempts(run.run_id)[0].reason
