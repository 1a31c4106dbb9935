"""RabbitMQ carries the messages while the records stay in Valkey (apt: rabbitmq-server)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskensemble.engine import messages
from taskensemble.engine.records import State
from tests.integration.engine.plane import JOURNAL, Plane, check_journal, journal, until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import running_server
from tests.rabbitmq import PROGRAM, Rabbit, running_rabbit

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="apt-get install rabbitmq-server")


@pytest.fixture(scope="module")
def rabbit() -> Iterator[Rabbit]:
    with running_rabbit() as broker:
        yield broker


@pytest.fixture
def plane(rabbit: Rabbit, tmp_path: Path) -> Iterator[Plane]:
    with running_server() as server:
        plane = Plane(rabbit.url, tmp_path, server.url)
        yield plane
        plane.close()


def test_members_run_and_are_counted_in(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    program = "import sys; sys.exit(sys.argv[1] == '7')"
    run, members = one_entity(
        tmp_path, [sys.executable, "-c", program], 20, args=[[str(i)] for i in range(20)], policy={"retries": 1}
    )
    status = plane.finish(plane.start(run, members))
    assert (status.state, status.completed, status.failed) == (State.FAILED, 19, 1)
    assert plane.store.attempts(run.run_id)[7].attempt == 2
    until(lambda: not plane.store.active_runs(), "the run's queues are gone")
    run, members = one_entity(tmp_path / "quick", ["/bin/true"], 300)
    assert plane.finish(plane.start(run, members)).completed == 300


def test_a_worker_whose_slots_are_taken_leaves_messages_to_others(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/sleep", "8"], 2)
    plane.start(run, members)
    until(lambda: plane.store.status(run.run_id).running == 1, "one runs")
    plane.worker("--slots", "1")
    until(lambda: plane.store.status(run.run_id).running == 2, "the other runs on the other worker", 6)
    assert plane.finish(run.run_id).completed == 2


def test_no_message_is_forgotten_between_workers_whose_slots_are_taken(plane: Plane, tmp_path: Path) -> None:
    for _ in range(2):
        plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/sleep", "0.5"], 12)
    plane.start(run, members)
    assert plane.finish(run.run_id).completed == 12
    # What a worker takes and neither claims nor gives back runs in the end, but only once the reaper misses it.
    assert not [name for name in ("w0", "w1") if "published again" in plane.log(name)]


def test_stop_deletes_what_waits(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/sleep", "60"], 200)
    plane.start(run, members)
    until(lambda: plane.store.status(run.run_id).running == 1, "one runs")
    plane.store.cancel(run.run_id)
    messages.delete_queues(plane.broker_url, run)
    status = plane.finish(run.run_id, 10)
    assert (status.state, status.cancelled) == (State.CANCELLED, 200)
    until(lambda: not plane.store.active_runs(), "the run's queues are gone")


def test_a_restarted_broker_loses_and_repeats_nothing(plane: Plane, rabbit: Rabbit, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    path = tmp_path / "journal"
    run, members = one_entity(tmp_path, [sys.executable, "-c", JOURNAL, str(path), "1.0"], 6)
    plane.start(run, members)
    until(lambda: len(journal(path)) >= 2, "members run")
    rabbit.kill()
    # Without its broker the worker goes on with what runs, and the record hears of it.
    until(lambda: plane.store.status(run.run_id).completed == 2, "running members end")
    rabbit.start()
    assert plane.finish(run.run_id, 90).completed == 6
    check_journal(path, 6)


def test_a_run_of_many_short_members_does_not_hold_up_one_that_is_started_later(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    many, many_members = one_entity(tmp_path / "many", ["/bin/true"], 10_000)
    plane.start(many, many_members)
    until(lambda: plane.store.status(many.run_id).completed > 200, "the worker knows how short they are")
    for program in ("/bin/true", "/bin/sleep"):
        late, late_members = one_entity(tmp_path / program[-5:], [program, "0.5"], 4)
        plane.start(late, late_members)
        assert plane.finish(late.run_id, 30).completed == 4
        done = plane.store.status(many.run_id).completed
        assert plane.store.status(many.run_id).queued
        until(lambda done=done: plane.store.status(many.run_id).completed > done, "the first run goes on")  # type: ignore[misc]
    plane.store.cancel(many.run_id)
