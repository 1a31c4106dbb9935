"""The simulated workers of benchmarks/scale do what real ones do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from benchmarks.members import Plane
from benchmarks.scale.saturate import saturate
from benchmarks.scale.simulation import simulation

MEMBERS = 300


def test_simulated_workers_run_an_ensemble_and_a_member_costs_the_broker_a_bounded_number_of_requests() -> None:
    with simulation(6, 8) as simulated:
        simulated.run(50)
        found = simulated.run(MEMBERS)
        assert len(simulated.store.workers()) == 6
    assert found.members == MEMBERS
    assert 1 <= found.requests < 4
    assert found.commands < 40


def test_requests_written_ahead_claim_and_end_every_member() -> None:
    with simulation(1, 1) as simulated:
        found = saturate(simulated, MEMBERS, slots=16)
    assert found.rate > 0
    assert 1 < found.requests < 2


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    opened = Plane(tmp_path)
    yield opened
    opened.close()


def test_a_real_worker_costs_the_broker_no_more_requests_than_a_simulated_one_of_its_shape(plane: Plane) -> None:
    plane.worker(8)
    client = redis.Redis.from_url(plane.url, protocol=2)
    client.config_resetstat()
    plane.run(["/bin/true"], MEMBERS)
    calls = {name: row["calls"] for name, row in client.info("commandstats").items()}
    real = (calls["cmdstat_evalsha"] + calls["cmdstat_blmpop"]) / MEMBERS
    client.close()
    with simulation(1, 8) as simulated:
        simulated.run(50)
        found = simulated.run(MEMBERS)
    simulation_alone = found.by_command["evalsha"] + found.by_command["blmpop"]
    # A real child takes a millisecond and members end one by one, so fewer of them share a claim: at most one claim a member.
    assert 1 < simulation_alone < real + 0.5
    assert real < 3


def test_no_worker_listens_to_the_events_of_others_nor_asks_them_at_its_start(plane: Plane) -> None:
    plane.worker(1)
    client = redis.Redis.from_url(plane.url, protocol=2, decode_responses=True)
    with client.monitor() as monitor:
        plane.worker(1)
        client.echo("both are up")
        said = []
        while True:
            command = str(monitor.next_command()["command"])
            if command == "ECHO both are up":
                break
            said.append(command)
    # Gossip would subscribe to the events of all workers, mingle would broadcast a question: both grow with their square.
    for kind in ("worker.heartbeat", "worker.online", "task.multi"):
        assert client.publish(f"/0.celeryev/{kind}", "{}") == 0
    assert not [command for command in said if command.startswith("PUBLISH") and "pidbox" in command]
    client.close()
