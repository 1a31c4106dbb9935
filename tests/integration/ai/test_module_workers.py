"""Inference workers that come, work, die, hang and lie."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis


def refused(client: redis.Redis, *words: object) -> str:
    with pytest.raises(redis.ResponseError) as caught:
        client.execute_command(*words)
    return str(caught.value)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def store(client: redis.Redis, program: str, *options: object, key: str = "m") -> None:
    client.execute_command("AI.MODELSTORE", key, "TORCH", "CPU", *options, "BLOB", program)


RUN = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b")


@pytest.fixture
def supervised(start: Callable[..., Any]) -> Any:
    database = start(module=("WORKER_TIMEOUT", "1000", "WORKER_GRACE", "0"))
    database.supervisor("TORCH/CPU/1")
    database.client().execute_command("AI.TENSORSET", "a", "FLOAT", 1, 1, "VALUES", 7)
    return database


def test_a_worker_is_started_on_first_use_and_kept(supervised: Any) -> None:
    client = supervised.client()
    assert supervised.workers() == []
    store(client, "pid")
    client.execute_command(*RUN)
    first = client.execute_command("AI.TENSORGET", "b", "VALUES")
    client.execute_command(*RUN)
    assert client.execute_command("AI.TENSORGET", "b", "VALUES") == first
    assert [w["pid"] for w in supervised.workers()] == first


def test_without_worker_or_offer_a_store_fails_at_once(start: Callable[..., Any]) -> None:
    client = start().client()
    began = time.monotonic()
    assert refused(client, "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "x") == "Could not load backend"
    assert time.monotonic() - began < 1


def test_a_supervisor_that_cannot_start_a_worker_is_believed(start: Callable[..., Any]) -> None:
    database = start()
    database.supervisor("TORCH/CPU/1", TOY_FAILS="1")
    assert refused(database.client(), "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "x") == "Could not load backend"
    assert "this supervisor starts nothing" in database.log()


def test_a_worker_that_never_joins_is_given_up(start: Callable[..., Any]) -> None:
    database = start(module=("WORKER_START_TIMEOUT", "200"))
    client = database.client()
    idle = database.client().connection_pool.get_connection()
    idle.send_command("AI._WORKER", "SUPERVISE", 1, "lazy", "OFFER", "TORCH", "CPU", 1)
    until(lambda: client.execute_command("CLIENT", "LIST").count(b"cmd=AI._WORKER") == 1)
    assert refused(client, "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "x") == "Could not load backend"
    assert idle.read_response() == [b"START", b"TORCH", b"CPU"]
    idle.disconnect()


def test_a_run_whose_worker_dies_is_tried_once_more(supervised: Any, tmp_path: Path) -> None:
    client = supervised.client()
    store(client, f"die-once {tmp_path / 'died'}")
    assert client.execute_command(*RUN) == b"OK"
    assert client.execute_command("AI.TENSORGET", "b", "VALUES") == [b"7"]


def test_a_run_that_kills_every_worker_fails_after_the_second(supervised: Any) -> None:
    client = supervised.client()
    store(client, "die")
    assert refused(client, *RUN) == "the inference worker died while it ran this request, twice"
    store(client, "echo")
    assert client.execute_command(*RUN) == b"OK"


def test_the_others_of_a_batch_that_killed_its_worker_get_their_answers(supervised: Any) -> None:
    client = supervised.client()
    store(client, "slow 0.3", key="busy")
    store(client, "die-batched", "BATCHSIZE", 8)
    client.execute_command("AI.TENSORSET", "two", "FLOAT", 2, 1)
    connections = []
    for words in [
        ("AI.MODELEXECUTE", "busy", *RUN[2:]),
        RUN,
        RUN,
        ("AI.MODELEXECUTE", "m", "INPUTS", 1, "two", "OUTPUTS", 1, "c"),
    ]:
        connection = supervised.client().connection_pool.get_connection()
        connection.send_command(*words)
        connections.append(connection)
    answers: list[Any] = []
    for connection in connections:
        try:
            answers.append(connection.read_response())
        except redis.ResponseError as error:
            answers.append(str(error))
    assert answers == [b"OK", b"OK", b"OK", "the inference worker died while it ran this request, twice"]


def test_a_worker_killed_from_outside_at_any_moment_costs_nobody_an_answer(supervised: Any) -> None:
    client = supervised.client()
    store(client, "slow 0.002")
    stop = threading.Event()
    wrong: list[str] = []

    def ask(number: int) -> None:
        mine = supervised.client()
        while not stop.is_set():
            try:
                mine.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, f"b{number}")
            except redis.ResponseError as error:
                wrong.append(str(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    killed: set[int] = set()
    for _ in range(5):
        pid = until(
            lambda: next((w["pid"] for w in supervised.workers() if w["units"] > 4 and w["pid"] not in killed), None)
        )
        killed.add(pid)
        os.kill(pid, signal.SIGKILL)
    until(lambda: any(w["units"] > 4 and w["pid"] not in killed for w in supervised.workers()))
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_worker_that_hangs_is_replaced(supervised: Any, tmp_path: Path) -> None:
    client = supervised.client()
    store(client, f"hang {tmp_path / 'hung'}")
    assert refused(client, *RUN) == "the inference worker did not answer within 1000 ms"
    assert client.execute_command(*RUN) == b"OK"
    assert len(supervised.workers()) == 1


def test_a_worker_that_answers_nonsense_is_dropped(supervised: Any) -> None:
    client = supervised.client()
    store(client, "garbage")
    assert refused(client, *RUN) == "the inference worker died while it ran this request, twice"


def test_a_pair_whose_workers_die_at_once_is_given_up(start: Callable[..., Any]) -> None:
    database = start()
    client = database.client()
    doomed = database.client().connection_pool.get_connection()

    def supervise() -> None:
        try:
            while True:
                doomed.send_command("AI._WORKER", "SUPERVISE", 1, "doomed", "OFFER", "TORCH", "CPU", 1)
                doomed.read_response()
                worker = database.client().connection_pool.get_connection()
                worker.send_command("AI._WORKER", "JOIN", 1, "TORCH", "CPU", "PID", 1)
                worker.read_response()
                worker.disconnect()
        except (redis.ConnectionError, OSError, ValueError, AttributeError):
            return

    thread = threading.Thread(target=supervise, daemon=True)
    thread.start()
    until(lambda: client.execute_command("CLIENT", "LIST").count(b"cmd=AI._WORKER") == 1)
    assert refused(client, "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "x") == "Could not load backend"
    doomed.disconnect()


def test_another_worker_is_ordered_when_all_are_busy_for_long(start: Callable[..., Any]) -> None:
    database = start()
    database.supervisor("TORCH/CPU/2")
    client = database.client()
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1)
    store(client, "slow 0.1")
    stop = threading.Event()

    def ask() -> None:
        mine = database.client()
        while not stop.is_set():
            mine.execute_command(*RUN)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(database.workers()) == 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_caller_that_leaves_disturbs_nobody(supervised: Any) -> None:
    client = supervised.client()
    store(client, "slow 0.1")
    for _ in range(3):
        connection = supervised.client().connection_pool.get_connection()
        connection.send_command(*RUN)
        connection.disconnect()
    assert client.execute_command(*RUN) == b"OK"
    until(lambda: client.info("modules")["ai_blocked_requests"] == 0)


@pytest.mark.parametrize("shared", [True, False])
def test_large_tensors_travel_with_and_without_shared_memory(start: Callable[..., Any], shared: bool) -> None:
    database = start()
    database.worker(**({} if shared else {"TOY_NO_SHM": "1"}))
    client = database.client()
    store(client, "both")
    blob = os.urandom(3_000_000)
    client.execute_command("AI.TENSORSET", "a", "UINT8", len(blob), "BLOB", blob)
    doubled = bytes(2 * byte % 256 for byte in blob)
    for _ in range(3):
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 2, "x", "y")
        assert client.execute_command("AI.TENSORGET", "x", "BLOB") == doubled
    assert (database.workers()[0]["segment"] > 0) == shared


def test_shared_memory_stays_within_its_limit(start: Callable[..., Any]) -> None:
    database = start(module=("SHARED_MEMORY", "1000000"))
    database.worker()
    client = database.client()
    store(client, "echo")
    for size in (100_000, 5_000_000, 200_000):
        client.execute_command("AI.TENSORSET", "a", "UINT8", size, "BLOB", bytes(size))
        client.execute_command(*RUN)
        assert client.execute_command("AI.TENSORGET", "b", "META")[3] == [size]
        assert client.info("modules")["ai_shared_memory_bytes"] <= 1_000_000


def test_a_deleted_model_is_unloaded_by_its_workers(start: Callable[..., Any]) -> None:
    database = start()
    database.worker()
    client = database.client()
    for i in range(5):
        store(client, "echo", key=f"m{i}")
    assert database.workers()[0]["loaded"] == 5
    client.delete("m0", "m1")
    client.flushall(asynchronous=True)
    until(lambda: client.info("modules")["ai_stored_models_and_scripts"] == 0)
    until(lambda: database.workers()[0]["loaded"] == 0)


def named_segments() -> set[str]:
    """Segments of ours that have a name; folders there belong to programs whose temporary folder it is."""
    return {entry.name for entry in os.scandir("/dev/shm") if "taskensemble" in entry.name and not entry.is_dir()}


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_nothing_leaks_whatever_dies(supervised: Any) -> None:
    client = supervised.client()
    server = supervised.process.pid
    store(client, "echo")
    store(client, "slow 0.2", key="slow")
    client.execute_command("AI.TENSORSET", "a", "UINT8", 1_000_000)

    def settled() -> tuple[int, int]:
        until(lambda: client.info("modules")["ai_inference_workers"] == 1)
        for _ in range(3):  # the first answers teach the module how much room the outputs need
            client.execute_command(*RUN)
        return descriptors(server), client.info("modules")["ai_shared_memory_bytes"]

    before = settled()
    named = named_segments()
    for moment in ("idle", "busy", "caller"):
        connection = supervised.client().connection_pool.get_connection()
        if moment != "idle":
            connection.send_command("AI.MODELEXECUTE", "slow", *RUN[2:])
            until(lambda: supervised.workers()[0]["state"] == "busy")
        pid = supervised.workers()[0]["pid"]
        if moment == "caller":
            connection.disconnect()
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: [w["pid"] for w in supervised.workers()] != [pid])
        if moment == "busy":
            assert connection.read_response() == b"OK"
        connection.disconnect()
        store(client, "echo", key=f"again-{moment}")
    after = settled()
    assert after[1] == before[1]
    assert after[0] <= before[0] + 4, "descriptors of the server"
    assert named_segments() <= named


def test_the_servers_memory_does_not_grow_with_executes(start: Callable[..., Any]) -> None:
    database = start()
    database.worker()
    client = database.client()
    store(client, "echo")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1, 10)

    def rounds(count: int) -> int:
        pipe = client.pipeline(transaction=False)
        for _ in range(count):
            pipe.execute_command(*RUN)
        pipe.execute()
        return int(client.info("memory")["used_memory"])

    before = min(rounds(500) for _ in range(3))
    after = min(rounds(500) for _ in range(8))
    assert after < before + 40_000


def test_a_stranger_cannot_work_under_anothers_id(start: Callable[..., Any]) -> None:
    database = start()
    worker = database.worker()
    client = database.client()
    worker_id = database.workers()[0]["id"]
    assert refused(client, "AI._WORKER", "NEXT", worker_id) == "unknown inference worker"
    assert refused(client, "AI._WORKER", "SHM", worker_id, "x" * 16) == "unknown inference worker"
    assert (
        refused(client, "AI._WORKER", "JOIN", 2, "TORCH", "CPU", "PID", 1)
        == "this module speaks version 1 of the worker protocol"
    )
    assert refused(client, "AI._WORKER", "DANCE") == "unknown verb of AI._WORKER"
    assert database.workers()[0]["pid"] == worker.pid
