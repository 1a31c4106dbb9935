"""Databases and inference workers that die under a run: members fail, are retried, and find their assets."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from taskensemble.database import DatabaseOptions, free_port, server_binary, start_database, stop_database
from taskensemble.engine import messages
from taskensemble.engine.records import (
    ColocatedRecord,
    DatabaseAddressRecord,
    DatabaseUseRecord,
    PolicyRecord,
    RunRecord,
)
from tests.chaos.journal import Figures, Journal, now
from tests.integration.engine.plane import Plane, until
from tests.integration.engine.runs import one_entity, template
from tests.integration.engine.test_assets import asset, model

pytest.importorskip("torch")

Tell = Callable[[Figures], None]

CALL = """
import numpy as np
from taskensemble.ai import Client
def call():
    client = Client(cluster=os.environ["SR_DB_TYPE"] == "Clustered")
    client.put_tensor("in_" + name, np.ones(2, np.float32))
    client.run_model("double", ["in_" + name], ["out_" + name])
    assert client.get_tensor("out_" + name).tolist() == [2, 2]
call()
write("called")
"""
"""A member's use of its database, inside the journal's program."""

UNTIL_IT_FAILS = (
    CALL
    + """
while number == "1":
    call()
    time.sleep(0.1)
"""
)

KILLS_ITS_OWN = (
    CALL
    + """
if number == "1":
    import redis
    client = redis.Redis(unix_socket_path=os.environ["SSDB"][len("unix://"):])
    os.kill(client.info("server")["process_id"], signal.SIGKILL)
    call()
"""
)

TWENTY = (
    CALL
    + """
for _ in range(20):
    call()
    time.sleep(0.05)
"""
)

LARGE = """
import numpy as np
from taskensemble.ai import Client
client = Client()
client.put_tensor("in_" + name, np.ones(1 << 23, np.float32))
for _ in range(10):
    client.run_model("double", ["in_" + name], ["out_" + name])
    write("called")
assert set(client.get_tensor("out_" + name)) == {2}
"""

RETRIES = {"retries": 200, "retry_delay": 0.5}
QUICK = {"SR_CONN_TIMEOUT": "2", "SR_CMD_TIMEOUT": "20"}


def start(plane: Plane, journal: Journal, script: str, size: int, use: DatabaseUseRecord) -> RunRecord:
    """Starts a run whose members use a database with a model."""
    program = plane.folder / "program.py"
    program.write_text(script)
    command = journal.command(0.0, f"run:{program}")
    run, members = one_entity(plane.folder, command, size)
    content = model()
    policy = PolicyRecord(**RETRIES)  # type: ignore[arg-type]
    changed = template(command, databases=(use,), assets=(asset(content),), env=QUICK)
    run = run.model_copy(update={"templates": (changed.model_copy(update={"policy": policy}),)})
    plane.store.write_run(run, members, {asset(content).digest: content})
    messages.publish_setup(plane.broker_url, run)
    return run


@pytest.fixture
def database(plane: Plane) -> Iterator[Callable[..., tuple[DatabaseOptions, DatabaseAddressRecord]]]:
    """Starts databases of the plane's experiment, and ends what runs of them."""
    started: list[DatabaseAddressRecord] = []

    def starting(options: DatabaseOptions | None = None, **given: Any) -> tuple[DatabaseOptions, DatabaseAddressRecord]:
        if options is None:
            folder = plane.folder / "db"
            folder.mkdir()
            options = DatabaseOptions(name="db", folder=folder, **given)
        address = start_database(options)
        started.append(address)
        plane.store.set_database(str(plane.folder), address)
        return options, address

    yield starting
    for address in started:
        stop_database(address)


def test_members_of_a_database_that_was_killed_find_their_assets_when_it_has_been_started_again(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, database: Callable[..., Any]
) -> None:
    plane.worker("--slots", "2")
    options, address = database(port=free_port())
    run = start(plane, journal, UNTIL_IT_FAILS, 3, DatabaseUseRecord(identifier=""))
    until(lambda: len(journal.lines("called")) >= 2, "two members use it", 90)
    os.kill(address.processes[0], signal.SIGKILL)
    until(
        lambda: plane.store.status(run.run_id).running == 0 or plane.store.attempts(run.run_id)[0].attempt > 1,
        "calls fail",
        60,
    )
    time.sleep(dice.uniform(0, 1))  # how long it is away
    stop_database(address)
    database(options)
    back = now()
    assert plane.finish(run.run_id, 120).completed == 3
    assert "had lost 1 assets" in plane.log("w0")
    tell(journal.check(plane.store, run.run_id, 3, "standard database SIGKILL, started again", since=back))


def test_a_shard_of_three_that_was_killed_gets_its_assets_again_when_it_is_back(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, database: Callable[..., Any]
) -> None:
    plane.worker("--slots", "2")
    options, address = database(shards=3)
    run = start(plane, journal, UNTIL_IT_FAILS, 6, DatabaseUseRecord(identifier=""))
    until(lambda: len(journal.lines("called")) >= 2, "two members use it", 90)
    shard = dice.randrange(3)
    os.kill(address.processes[shard], signal.SIGKILL)
    until(lambda: any(a.attempt > 1 for a in plane.store.attempts(run.run_id)), "calls fail", 90)
    with subprocess.Popen(
        [server_binary(), str(options.folder / f"db_{shard}.conf")], stdout=subprocess.DEVNULL
    ) as again:
        back = now()
        try:
            assert plane.finish(run.run_id, 150).completed == 6
            tell(journal.check(plane.store, run.run_id, 6, "one shard of three SIGKILL, started again", since=back))
        finally:
            stop_database(address)
            again.kill()


@pytest.mark.parametrize("kept", [False, True], ids=["without checkpoints", "with checkpoints"])
@pytest.mark.parametrize("shards", [1, 3], ids=["standard", "one shard of three"])
def test_a_killed_server_of_an_experiments_database_is_started_again_with_what_it_had_saved_and_the_assets(
    plane: Plane,
    journal: Journal,
    dice: random.Random,
    tell: Tell,
    database: Callable[..., Any],
    shards: int,
    kept: bool,
) -> None:
    plane.worker("--slots", "2")
    settings = {"save": "1 1"} if kept else {}
    _, address = database(shards=shards, port=0, restart=True, settings=settings)
    run = start(plane, journal, TWENTY, 3 * shards, DatabaseUseRecord(identifier=""))
    until(lambda: len(journal.lines("called")) >= 2, "two members use it", 90)
    shard = dice.randrange(shards)
    host, _, port = address.addresses[shard].rpartition(":")
    client = redis.Redis(host, int(port), protocol=2)
    key = next(name for name in (f"mine{number}" for number in range(1000)) if _accepts(client, name))
    client.set(key, "here")
    if kept:
        until(lambda: _saved(client), "no other dump is on its way", 30)
    os.kill(address.processes[shard], signal.SIGKILL)
    killed = now()
    assert plane.finish(run.run_id, 150).completed == 3 * shards
    what = "standard database" if shards == 1 else "one shard of three"
    checkpoints = "with checkpoints" if kept else "without"
    tell(
        journal.check(
            plane.store, run.run_id, 3 * shards, f"{what} SIGKILL, restarts itself, {checkpoints}", since=killed
        )
    )
    assert client.get(key) == (b"here" if kept else None)
    assert client.info("server")["process_id"] != address.processes[shard]
    assert ("had lost 1 assets" in plane.log("w0")) is not kept
    client.close()


def _saved(client: Any) -> bool:
    try:
        return bool(client.save())
    except redis.ResponseError:  # its own `save` is at work
        return False


def _accepts(client: Any, key: str) -> bool:
    try:
        client.get(key)
    except redis.ResponseError:
        return False
    return True


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_a_retried_member_has_a_new_colocated_database_with_its_assets(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, shared: bool
) -> None:
    plane.worker("--slots", "1")
    colocated = ColocatedRecord(transport="unix", shared=shared)
    began = now()
    run = start(plane, journal, KILLS_ITS_OWN, 2, DatabaseUseRecord(identifier="", colocated=colocated))
    assert plane.finish(run.run_id, 180).completed == 2
    figures = journal.check(
        plane.store, run.run_id, 2, f"colocated database SIGKILL, {'shared' if shared else 'own'}", since=began
    )
    assert max(line.attempt for line in journal.lines("end")) == 2
    tell(figures)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_members_do_not_notice_an_inference_worker_that_dies_and_survive_one_that_hangs(
    plane: Plane,
    journal: Journal,
    dice: random.Random,
    tell: Tell,
    database: Callable[..., Any],
    number: signal.Signals,
) -> None:
    plane.worker("--slots", "2")
    with tempfile.TemporaryDirectory(prefix="te-") as short:
        database(unix_socket=f"{short}/s")
        client: Any = redis.Redis(unix_socket_path=f"{short}/s", socket_timeout=60)
        client.execute_command("AI.CONFIG", "WORKER_TIMEOUT", 2000)
        run = start(plane, journal, TWENTY, 4, DatabaseUseRecord(identifier=""))
        until(lambda: journal.lines("called"), "a member uses it", 90)
        time.sleep(dice.uniform(0, 0.5))  # when it is struck
        (row,) = client.execute_command("AI._WORKER", "LIST")
        facts = dict(zip(row[::2], row[1::2], strict=True))
        os.kill(facts[b"pid"], number)
        struck = now()
        assert plane.finish(run.run_id, 150).completed == 4
        tell(journal.check(plane.store, run.run_id, 4, f"inference worker {number.name}", since=struck))
        if number is signal.SIGKILL:
            assert {line.attempt for line in journal.lines()} == {1}
        client.close()
        assert not Path(f"/proc/{facts[b'pid']}").exists()


def test_an_inference_worker_without_memory_answers_with_an_error_and_the_members_retries_succeed_when_it_has(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, database: Callable[..., Any]
) -> None:
    plane.worker("--slots", "2")
    with tempfile.TemporaryDirectory(prefix="te-") as short:
        _, address = database(unix_socket=f"{short}/s")
        client: Any = redis.Redis(unix_socket_path=f"{short}/s", socket_timeout=60)
        run = start(plane, journal, LARGE, 4, DatabaseUseRecord(identifier=""))
        until(lambda: len(journal.lines("called")) > dice.randrange(8), "a member uses it", 240)
        (row,) = client.execute_command("AI._WORKER", "LIST")
        pid = dict(zip(row[::2], row[1::2], strict=True))[b"pid"]
        limit = resource.prlimit(pid, resource.RLIMIT_AS)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() // 2, limit[1]))
        struck = now()

        def failed() -> bool:
            return any(one.attempt > 1 for one in plane.store.attempts(run.run_id))

        def died() -> bool:
            # Where even its library finds no memory for an error, the request is run again by a worker that has some.
            return not Path(f"/proc/{pid}").exists()

        until(lambda: failed() or died(), "a member fails, or the worker dies of it", 100)
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, limit)
        assert plane.finish(run.run_id, 240).completed == 4
        tell(journal.check(plane.store, run.run_id, 4, "inference worker out of memory", since=struck))
        assert client.info("server")["process_id"] == address.processes[0]
        client.close()
        said = [path.read_text() for path in (plane.folder / "plate").glob("*/*.err.*")]
        assert any("memory" in text for text in said) or (died() and not said), said
