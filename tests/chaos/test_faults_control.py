"""The control plane away, its messages twice and in any order, its driver dead: members run once to their end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from taskensemble import Experiment, Status
from taskensemble.engine import messages
from tests.chaos.journal import Figures, Journal, now
from tests.chaos.test_faults_members import small_disk
from tests.integration.engine.plane import Plane, until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import Server, running_server
from tests.integration.experiment.drivers import Driver
from tests.rabbitmq import PROGRAM, Rabbit, running_rabbit

__all__ = ["small_disk"]

Tell = Callable[[Figures], None]


@pytest.mark.parametrize("lease", [30.0, 4.0])
def test_a_broker_that_is_down_for_less_than_a_lease_costs_nothing_and_for_longer_one_attempt(
    plane: Plane, broker: Server, journal: Journal, dice: random.Random, tell: Tell, lease: float
) -> None:
    for _ in range(2):
        plane.worker("--slots", "2", "--lease", str(lease))
    run, members = one_entity(plane.folder, journal.command(6.0), 6)
    plane.start(run, members)
    journal.started(3)
    time.sleep(dice.uniform(0, 0.5))  # when the fault is struck
    broker.kill()
    time.sleep(8)  # the outage itself
    broker.start()
    back = now()
    assert plane.finish(run.run_id, 120).completed == 6
    down = "shorter" if lease > 8 else "longer"
    tell(journal.check(plane.store, run.run_id, 6, f"broker down, {down} than a lease", since=back))
    if lease > 8:
        assert {line.attempt for line in journal.lines()} == {1}


@pytest.mark.parametrize("full", ["disk", "memory"])
def test_a_control_plane_that_has_no_room_loses_nothing_and_goes_on_when_it_has(
    journal: Journal, dice: random.Random, tell: Tell, small_disk: Path, tmp_path: Path, full: str
) -> None:
    lease = 6.0
    with running_server(small_disk) as server:
        plane = Plane(server.url, tmp_path)
        try:
            workers = [plane.worker("--slots", "2", "--lease", str(lease)) for _ in range(2)]
            run, members = one_entity(plane.folder, journal.command(dice.uniform(0.5, 1.5)), 8)
            plane.start(run, members)
            journal.started(dice.randint(1, 4))
            filling = small_disk / "filling"
            if full == "disk":
                subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4k"], capture_output=True, check=False)
            else:
                server.client().config_set("maxmemory", 1)
            until(lambda: not _writes(server), "the server refuses to write")
            until(lambda: journal.lines("end"), "a member has ended meanwhile")
            time.sleep(1.5 * lease)  # the outage itself
            assert not _writes(server)
            assert [worker.poll() for worker in workers] == [None, None]
            if full == "disk":
                filling.unlink()
            else:
                server.client().config_set("maxmemory", 0)
            until(lambda: _writes(server), "the server writes again")
            back = now()
            assert plane.finish(run.run_id, 120).completed == 8
            assert {line.attempt for line in journal.lines()} == {1}
            assert [worker.poll() for worker in workers] == [None, None]
            tell(journal.check(plane.store, run.run_id, 8, f"{full} of the control plane full", since=back))
        finally:
            plane.close()


def _writes(server: Server) -> bool:
    try:
        return bool(server.client().set("room", 1))
    except redis.ResponseError:
        return False


def strike_one_of_two(
    carrier: Server | Rabbit, store: Server, victim: str, folder: Path, journal: Journal, dice: random.Random
) -> Figures:
    """Takes the server of messages or that of records away for seconds while a run is under way."""
    plane = Plane(carrier.url, folder, store_url=store.url)
    try:
        for _ in range(2):
            plane.worker("--slots", "1", "--lease", "20")
        run, members = one_entity(plane.folder, journal.command(1.0), 8)
        plane.start(run, members)
        journal.started(dice.randint(1, 4))
        server = carrier if victim == "messages" else store
        server.kill()
        time.sleep(3)  # the outage itself
        server.start()
        back = now()
        assert plane.finish(run.run_id, 120).completed == 8
        kind = "RabbitMQ" if isinstance(carrier, Rabbit) else "server of messages"
        fault = f"{kind if victim == 'messages' else f'server of records beside {kind}'} down, the other up"
        figures = journal.check(plane.store, run.run_id, 8, fault, since=back, broker_url=carrier.url)
        assert {line.attempt for line in journal.lines()} == {1}
        return figures
    finally:
        plane.close()


@pytest.mark.parametrize("victim", ["messages", "records"])
def test_messages_and_records_on_servers_of_their_own_each_down_in_turn(
    broker: Server,
    second_broker: Server,
    journal: Journal,
    dice: random.Random,
    tell: Tell,
    tmp_path: Path,
    victim: str,
) -> None:
    tell(strike_one_of_two(second_broker, broker, victim, tmp_path, journal, dice))


@pytest.fixture(scope="module")
def rabbit() -> Iterator[Rabbit]:
    if not PROGRAM.exists():
        pytest.skip("not installed: rabbitmq-server; run tests/system/install.sh")
    with running_rabbit() as broker:
        yield broker


@pytest.mark.parametrize("victim", ["messages", "records"])
def test_rabbitmq_and_the_record_store_each_down_in_turn(
    rabbit: Rabbit, broker: Server, journal: Journal, dice: random.Random, tell: Tell, tmp_path: Path, victim: str
) -> None:
    tell(strike_one_of_two(rabbit, broker, victim, tmp_path, journal, dice))


def test_messages_that_come_twice_in_any_order_and_while_their_members_run_start_nothing_twice(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    for _ in range(2):
        plane.worker("--slots", "2")
    run, members = one_entity(plane.folder, journal.command(0.7), 10)
    plane.start(run, members)
    journal.started(1)
    began = now()
    publisher = messages.Publisher(plane.broker_url)
    every = [messages.member_message(run, i, 0, 0, name=f"plate_{i}") for i in range(10)]
    while not plane.store.status(run.run_id).state.final:
        publisher.publish(dice.sample(every, 7))
        time.sleep(0.1)  # the pace of the redelivery
    until(
        lambda: not any(publisher.length(queue.name) for queue in messages.run_queues(run)), "all are read or dropped"
    )
    publisher.close()
    tell(journal.check(plane.store, run.run_id, 10, "duplicate and reordered delivery", since=began))


DRIVER = """
from taskensemble import Experiment
exp = Experiment("exp", slots=2)
program = exp.create_run_settings(exe={head!r}, exe_args={rest!r})
run = exp.start(exp.create_ensemble("ens", replicas=5, run_settings=program), block=False)
print(f"run={{run.run_id}}", flush=True)
run.wait()
"""


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TASKENSEMBLE_BROKER_URL", "TASKENSEMBLE_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _killed_driver(folder: Path, journal: Journal, seconds: float) -> tuple[Driver, str]:
    head, *rest = journal.command(seconds)
    driver = Driver(folder, DRIVER.format(head=head, rest=rest))
    driver.says("run=")
    journal.started(2)
    driver.signal(signal.SIGKILL)
    driver.wait()
    return driver, driver.output.partition("run=")[2].split()[0]


def test_members_of_an_embedded_driver_that_was_killed_run_as_their_next_attempt_where_it_is_reconnected(
    in_folder: Path, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    driver, run_id = _killed_driver(in_folder, journal, 1.5)
    try:
        killed = now()
        until(lambda: not driver.left(), "every process of the driver has ended", 40)
        assert not journal.lines("end")
        time.sleep(dice.uniform(0, 1))  # how long nobody is there
        with Experiment("exp", slots=2) as again:
            handle = again.reconnect(run_id)
            status = handle.wait(120)
            assert (status.state, status.completed) == (Status.COMPLETED, 5)
            store = again._connection.working().store
            tell(journal.check(store, run_id, 5, "driver SIGKILL, embedded", since=killed))
        assert max(line.attempt for line in journal.lines()) == 2
    finally:
        driver.close()


def test_a_run_on_a_kept_control_plane_does_not_notice_that_its_driver_was_killed(
    in_folder: Path, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    command = [str(Path(sys.executable).with_name("taskensemble"))]
    subprocess.run([*command, "up", "--slots", "2"], check=True, capture_output=True, timeout=90)
    driver = None
    try:
        driver, run_id = _killed_driver(in_folder, journal, dice.uniform(0.8, 1.5))
        killed = now()
        with Experiment("exp") as again:
            assert again.reconnect(run_id).wait(120).completed == 5
            tell(journal.check(again._connection.working().store, run_id, 5, "driver SIGKILL, kept", since=killed))
        assert {line.attempt for line in journal.lines()} == {1}
    finally:
        subprocess.run([*command, "down"], check=True, capture_output=True, timeout=90)
        if driver is not None:
            driver.close()
    assert os.getcwd() == str(in_folder)
