"""Outages at their full length, under the lease that workers have by default: what other files strike scaled down.

These take minutes each and cost almost nothing: `pytest -n 5` strikes several side by side.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from taskensemble.engine import messages
from tests.chaos.journal import Figures, Journal, now
from tests.chaos.test_faults_hosts import Island, cut_off, island
from tests.integration.engine.plane import Plane, until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import Server

__all__ = ["island"]

Tell = Callable[[Figures], None]

LEASE = 180.0
"""Seconds; what workers have by default."""

pytestmark = pytest.mark.timeout(1200)


def test_a_broker_that_is_down_for_two_minutes_costs_nothing(
    plane: Plane, broker: Server, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    for _ in range(2):
        plane.worker("--slots", "2")
    assert plane.record("w0").lease == LEASE
    run, members = one_entity(plane.folder, journal.command(dice.uniform(60.0, 130.0), "daemon"), 6)
    plane.start(run, members)
    journal.started(4)
    broker.kill()
    time.sleep(120)  # the outage itself
    broker.start()
    back = now()
    assert plane.finish(run.run_id, 400).completed == 6
    assert {line.attempt for line in journal.lines()} == {1}
    tell(journal.check(plane.store, run.run_id, 6, "broker down for 120 s, lease of 180 s", since=back))


@pytest.mark.parametrize(("seconds", "attempts"), [(30.0, 1), (300.0, 2)], ids=["30 s", "5 min"])
def test_a_worker_that_is_cut_off_for_30_s_repeats_nothing_and_for_5_min_has_ended_its_members_before_others_start_them(
    plane: Plane, broker: Server, island: Island, journal: Journal, dice: random.Random, tell: Tell, seconds: float, attempts: int
) -> None:  # fmt: skip
    length = dice.uniform(50.0, 70.0) if attempts == 1 else dice.uniform(230.0, 240.0)
    figures, took = cut_off(
        plane, broker, island, journal, length=length, seconds=seconds, attempts=attempts, lease=LEASE
    )
    if attempts == 2:
        # The cut-off side keeps its members for 0.8 of the lease; the other side waits for a whole one, and for what
        # docs/reliability.md adds up: 7 s, and the start of a program. The rest is for a machine that does much else.
        assert LEASE * 0.8 < took < LEASE + 45
    tell(figures)


def test_members_of_30_s_that_are_delivered_again_each_5_s_run_once(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    """What a broker with a visibility time-out of 5 s does to whoever does not acknowledge."""
    for _ in range(2):
        plane.worker("--slots", "3", "--lease", "20")
    run, members = one_entity(plane.folder, journal.command(30.0), 5)
    plane.start(run, members)
    journal.started(5)
    began = now()
    publisher = messages.Publisher(plane.broker_url)
    again = 0
    while not plane.store.status(run.run_id).state.final:
        running = [attempt.index for attempt in plane.store.attempts(run.run_id) if not attempt.state.final]
        dice.shuffle(running)
        again += publisher.publish(messages.member_message(run, i, 0, 0, name=f"plate_{i}") for i in running)
        time.sleep(5)  # the visibility time-out
    assert again >= 20
    queues = messages.run_queues(run)
    until(lambda: not any(publisher.length(queue.name) for queue in queues), "all are read or dropped")
    publisher.close()
    assert {line.attempt for line in journal.lines()} == {1}
    tell(journal.check(plane.store, run.run_id, 5, "redelivery each 5 s, members of 30 s", since=began))
