"""A host whose clock steps, one that is cut off, and many workers at once."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskensemble.engine.store import Store
from tests.chaos.journal import Figures, Journal, now
from tests.integration.engine.plane import BEGINS, ROOT, Plane, until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import Server

Tell = Callable[[Figures], None]


def worker_with(
    plane: Plane, prefix: list[str], environment: dict[str, str], *options: str, url: str | None = None
) -> str:
    """Starts a worker behind a command, or with more environment; its name, once it has registered."""
    name = f"w{len(plane.workers)}"
    command = [*prefix, sys.executable, "-P", "-m", "workers.app", "--name", name, "--log-level", "INFO", *options]
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TASKENSEMBLE_BROKER_URL": url or plane.broker_url,
        **environment,
    }
    with (plane.folder / f"{name}.log").open("ab") as log:
        plane.workers.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log, cwd=plane.folder))
    until(
        lambda: name in [worker.name for worker in plane.store.workers()], f"worker {name}: {plane.log(name)}", BEGINS
    )
    return name


@pytest.mark.parametrize("step", ["+3600", "-3600"])
def test_a_clock_that_steps_by_an_hour_on_one_host_neither_loses_nor_prolongs_a_lease(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, tmp_path: Path, step: str
) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("stepping a clock needs a C compiler")
    library, clock = tmp_path / "clock.so", tmp_path / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-std=c11", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    clock.write_bytes(struct.pack("q", 0))
    preload = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(clock)}
    stepped = worker_with(plane, [], preload, "--slots", "2", "--lease", "5")
    plane.worker("--slots", "1", "--lease", "5")
    run, members = one_entity(plane.folder, journal.command(dice.uniform(5.5, 7.0)), 6)
    plane.start(run, members)
    journal.started(3)
    with clock.open("r+b") as stream:
        stream.write(struct.pack("q", int(step)))
    began = now()
    until(lambda: abs(plane.record(stepped).seen - time.time()) > 3000, "the worker's clock has stepped")
    assert plane.finish(run.run_id, 120).completed == 6
    assert {line.attempt for line in journal.lines()} == {1}
    tell(journal.check(plane.store, run.run_id, 6, f"clock of one worker {step} s", since=began))
    # Nor is it prolonged: the stepped worker is killed, and its members run elsewhere in time.
    run, members = one_entity(plane.folder / "second", Journal(tmp_path / "journal2").command(1.0), 3)
    second = Journal(tmp_path / "journal2")
    plane.start(run, members)
    second.started(3)
    plane.workers[0].kill()
    killed = now()
    assert plane.finish(run.run_id, 60).completed == 3
    second.check(plane.store, run.run_id, 3, "", since=killed)


@dataclass
class Island:
    """A network namespace with one line to this one."""

    name: str
    subnet: str

    @property
    def here(self) -> str:
        return f"{self.subnet}.1"

    def command(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        ip("link", "set", f"{self.name}o", "down")

    def join(self) -> None:
        ip("link", "set", f"{self.name}o", "up")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def island() -> Iterator[Island]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    made = Island(f"tc{secrets.token_hex(3)}", f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}")
    inside, outside = f"{made.name}i", f"{made.name}o"
    try:
        ip("netns", "add", made.name)
        ip("link", "add", inside, "type", "veth", "peer", "name", outside)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network devices can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "set", inside, "netns", made.name)
        ip("addr", "add", f"{made.here}/24", "dev", outside)
        ip("link", "set", outside, "up")
        ip("netns", "exec", made.name, "ip", "addr", "add", f"{made.subnet}.2/24", "dev", inside)
        ip("netns", "exec", made.name, "ip", "link", "set", inside, "up")
        ip("netns", "exec", made.name, "ip", "link", "set", "lo", "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", made.name], check=False, capture_output=True)


def cut_off(
    plane: Plane,
    broker: Server,
    island: Island,
    journal: Journal,
    *,
    length: float,
    seconds: float,
    attempts: int,
    lease: float,
) -> tuple[Figures, float]:
    """Cuts a worker off whose two members run, and joins it again.

    Arguments:
        length: that a member runs, in seconds.
        seconds: how long the worker is cut off.
        attempts: that the members need: the second ones, on another worker, begin while the first one is cut off or later.
        lease: of the workers, in seconds.

    Returns:
        What it has shown, and seconds from the cut until the other worker ran the members (0 with one attempt).
    """
    broker.client().config_set("bind", f"127.0.0.1 {island.here}")
    url = broker.url.replace("127.0.0.1", island.here)
    try:
        away = worker_with(plane, island.command(), {}, "--slots", "2", "--lease", str(lease), url=url)
        run, members = one_entity(plane.folder, journal.command(length, "daemon"), 2)
        plane.start(run, members)
        journal.started(2)
        if attempts == 1:
            plane.worker("--slots", "2", "--lease", str(lease))
        island.cut()
        began, took = now(), 0.0
        if attempts == 2:
            # The other worker comes after the cut: on a busy machine its start outlasts the members.
            assert not journal.lines("end")
            plane.worker("--slots", "2", "--lease", str(lease))
            # When `journal` says `overlap`, or a lock is held, the cut-off side had not ended its members before.
            journal.started(4, lease + 90)
            took = now() - began
        time.sleep(max(0.0, began + seconds - now()))  # the rest of the cut
        island.join()
        back = now() if attempts == 1 else began
        assert plane.finish(run.run_id, 400).completed == 2
        fault = f"network cut for {seconds:g} s, lease of {lease:g} s"
        figures = journal.check(plane.store, run.run_id, 2, fault, since=back)
        assert max(line.attempt for line in journal.lines()) == attempts
        until(lambda: plane.record(away).age < 10, "the cut-off worker is back", 60)
        return figures, took
    finally:
        island.join()
        plane.close()


@pytest.mark.parametrize(("seconds", "attempts"), [(1.0, 1), (12.0, 2)], ids=["a sixth of a lease", "two leases"])
def test_a_worker_that_is_cut_off_keeps_its_members_for_a_while_and_has_ended_them_before_others_start_them(
    plane: Plane, broker: Server, island: Island, journal: Journal, dice: random.Random, tell: Tell, seconds: float, attempts: int
) -> None:  # fmt: skip
    length = dice.uniform(15.0, 17.0)
    figures, _ = cut_off(plane, broker, island, journal, length=length, seconds=seconds, attempts=attempts, lease=6.0)
    tell(figures)


def test_twenty_workers_share_members_while_drivers_ask_for_their_state(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    for _ in range(20):
        plane.worker("--slots", "4", wait=False)
    until(lambda: len(plane.store.workers()) == 20, "twenty workers", 150)
    run, members = one_entity(plane.folder, journal.command(0.0), 400)
    over = threading.Event()
    asked: list[int] = []

    def ask() -> None:
        store, count = Store.connect(plane.store_url), 0
        while not over.wait(0.05):
            assert store.status(run.run_id).size == 400
            count += 1
        asked.append(count)
        store.close()

    began = now()
    plane.start(run, members)
    drivers = [threading.Thread(target=ask) for _ in range(20)]
    for driver in drivers:
        driver.start()
    journal.started(dice.randint(20, 200), 120)
    # Of members of no work, some have ended and are not in the record yet when their worker is killed.
    frozen, *killed = (plane.workers[number] for number in dice.sample(range(20), 4))
    frozen.send_signal(signal.SIGSTOP)
    for worker in killed:
        worker.kill()
        time.sleep(dice.uniform(0, 0.3))  # when the next one is struck
    time.sleep(dice.uniform(0.5, 1.5))  # for how long one says nothing
    frozen.send_signal(signal.SIGCONT)
    try:
        assert plane.finish(run.run_id, 180).completed == 400
    finally:
        over.set()
        for driver in drivers:
            driver.join(30)
    assert len(asked) == 20
    figures = journal.check(
        plane.store, run.run_id, 400, "20 workers, one frozen, three SIGKILL, 20 drivers ask", since=began
    )
    tell(figures)
    assert len({attempt.worker for attempt in plane.store.attempts(run.run_id)}) > 10
