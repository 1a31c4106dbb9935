"""BATCHSIZE, MINBATCHSIZE, MINBATCHTIMEOUT: many callers, one run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis


class Callers:
    """Requests sent from connections of their own, in order, without waiting for the answers."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.connections: list[Any] = []

    def send(self, *words: object) -> None:
        connection = self.database.client().connection_pool.get_connection()
        connection.send_command(*words)
        self.connections.append(connection)

    def replies(self) -> list[Any]:
        answers = []
        for connection in self.connections:
            try:
                answers.append(connection.read_response())
            except redis.ResponseError as error:
                answers.append(str(error))
            connection.disconnect()
        self.connections.clear()
        return answers


@pytest.fixture
def callers(database: Any) -> Callers:
    return Callers(database)


Release = Callable[[], list[Any]]


@pytest.fixture
def hold(client: redis.Redis, callers: Callers, tmp_path: Path) -> Iterator[Callable[[], Release]]:
    """Keeps the worker busy, so that what is sent now waits, until the release that it returns; that returns the answers."""
    gates = [tmp_path / f"gate{i}" for i in range(10)]
    closed = iter(gates)

    def begin() -> Release:
        gate = next(closed)
        client.execute_command("AI.MODELSTORE", "busy", "TORCH", "CPU", "BLOB", f"wait {gate}")
        client.execute_command("AI.TENSORSET", "one", "FLOAT", 1)
        callers.send("AI.MODELEXECUTE", "busy", "INPUTS", 1, "one", "OUTPUTS", 1, "ignored")
        until(lambda: any(w["state"] == "busy" for w in callers.database.workers()))

        def release() -> list[Any]:
            until(lambda: client.info("modules")["ai_waiting_jobs"] == len(callers.connections) - 1)
            gate.touch()
            return callers.replies()[1:]

        return release

    yield begin
    for gate in gates:
        gate.touch()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def lines(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def test_waiting_requests_run_as_one_batch_and_get_their_own_rows(
    client: redis.Redis, callers: Callers, hold: Callable[[], Release], tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 8, "BLOB", f"trace {trace}")
    release = hold()
    for i in range(6):
        client.execute_command("AI.TENSORSET", f"a{i}", "FLOAT", 1 + i % 2, 2, "VALUES", *[i] * 2 * (1 + i % 2))
        callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, f"a{i}", "OUTPUTS", 1, f"b{i}")
    assert release() == [b"OK"] * 6
    assert lines(trace) == [7, 2], "a batch of 8 has no room for the last two rows behind seven"
    for i in range(6):
        assert client.execute_command("AI.TENSORGET", f"b{i}") == client.execute_command("AI.TENSORGET", f"a{i}")
    row = client.execute_command("AI.INFO", "m")
    assert (row[13], row[15]) == (9, 6)


def test_only_requests_that_agree_but_for_dimension_0_are_joined(
    client: redis.Redis, callers: Callers, hold: Callable[[], Release], tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 100, "BLOB", f"trace {trace}")
    release = hold()
    for i, (kind, dims) in enumerate(
        [("FLOAT", (1, 2)), ("FLOAT", (1, 3)), ("DOUBLE", (1, 2)), ("FLOAT", (3, 2)), ("FLOAT", (2,))]
    ):
        client.execute_command("AI.TENSORSET", f"a{i}", kind, *dims)
        callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, f"a{i}", "OUTPUTS", 1, f"b{i}")
    assert release() == [b"OK"] * 5
    assert sorted(lines(trace)) == [1, 1, 2, 4]
    assert client.execute_command("AI.TENSORGET", "b3", "META") == [b"dtype", b"FLOAT", b"shape", [3, 2]]


def test_strings_and_several_inputs_are_batched_too(
    client: redis.Redis, callers: Callers, hold: Callable[[], Release]
) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 8, "BLOB", "echo")
    release = hold()
    for i in range(3):
        client.execute_command("AI.TENSORSET", f"s{i}", "STRING", 2, 1, "VALUES", "x" * i, f"y{i}")
        client.execute_command("AI.TENSORSET", f"n{i}", "INT8", 2, "VALUES", i, -i)
        callers.send("AI.MODELEXECUTE", "m", "INPUTS", 2, f"s{i}", f"n{i}", "OUTPUTS", 2, f"t{i}", f"o{i}")
    assert release() == [b"OK"] * 3
    for i in range(3):
        assert client.execute_command("AI.TENSORGET", f"t{i}", "VALUES") == [b"x" * i, f"y{i}".encode()]
        assert client.execute_command("AI.TENSORGET", f"o{i}", "VALUES") == [i, -i]


def test_a_minimal_batch_waits_for_its_samples(client: redis.Redis, callers: Callers, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    client.execute_command(
        "AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 4, "MINBATCHSIZE", 3, "BLOB", f"trace {trace}"
    )
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1, 2)
    for _ in range(2):
        callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
    time.sleep(0.1)
    assert lines(trace) == []
    callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
    assert callers.replies() == [b"OK"] * 3
    assert lines(trace) == [3]


def test_a_minimal_batch_is_released_after_its_timeout(client: redis.Redis, callers: Callers, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    client.execute_command(
        "AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 4, "MINBATCHSIZE", 3, "MINBATCHTIMEOUT", 100, "BLOB", f"trace {trace}"
    )  # fmt: skip
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1, 2)
    began = time.monotonic()
    for _ in range(2):
        callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
    assert callers.replies() == [b"OK"] * 2
    assert 0.09 < time.monotonic() - began < 1
    assert lines(trace) == [2]


def test_a_request_that_waits_for_a_minimal_batch_can_time_out(client: redis.Redis, callers: Callers) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 4, "MINBATCHSIZE", 3, "BLOB", "echo")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1, 2)
    assert (
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b", "TIMEOUT", 30)
        == b"TIMEDOUT"
    )


def test_a_model_that_does_not_split_is_an_error_for_all_of_its_batch(
    client: redis.Redis, callers: Callers, hold: Callable[[], Release]
) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 8, "BLOB", "first")
    release = hold()
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1, 2)
    for _ in range(2):
        callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
    assert release() == ["Model did not generate the expected batch size"] * 2


def test_one_bad_request_does_not_fail_the_others_of_its_batch(
    client: redis.Redis, callers: Callers, hold: Callable[[], Release]
) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 8, "BLOB", "fail-negative")
    release = hold()
    for i, value in enumerate([1, -1, 2]):
        client.execute_command("AI.TENSORSET", f"a{i}", "FLOAT", 1, 1, "VALUES", value)
        callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, f"a{i}", "OUTPUTS", 1, f"b{i}")
    assert release() == [b"OK", "negative", b"OK"]


def test_large_batches_are_cut_right(client: redis.Redis, callers: Callers, hold: Callable[[], Release]) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 16, "BLOB", "echo")
    blobs = [bytes([i]) * (40_000 * (1 + i % 3)) for i in range(8)]
    for _ in range(2):
        release = hold()
        for i, blob in enumerate(blobs):
            client.execute_command("AI.TENSORSET", f"a{i}", "UINT8", 1 + i % 3, 40_000, "BLOB", blob)
            callers.send("AI.MODELEXECUTE", "m", "INPUTS", 1, f"a{i}", "OUTPUTS", 1, f"b{i}")
        assert release() == [b"OK"] * 8
        for i, blob in enumerate(blobs):
            assert client.execute_command("AI.TENSORGET", f"b{i}", "BLOB") == blob


def test_a_busy_model_does_not_starve_another(client: redis.Redis, database: Any) -> None:
    client.execute_command("AI.MODELSTORE", "crowd", "TORCH", "CPU", "BLOB", "slow 0.01")
    client.execute_command("AI.MODELSTORE", "single", "TORCH", "CPU", "BLOB", "echo")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1)
    stop = threading.Event()

    def crowd() -> None:
        mine = database.client()
        while not stop.is_set():
            mine.execute_command("AI.MODELEXECUTE", "crowd", "INPUTS", 1, "a", "OUTPUTS", 1, "b")

    threads = [threading.Thread(target=crowd) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        waits = []
        for _ in range(10):
            asked = client.pipeline(transaction=False)  # one after the other in the server, however slow this client is
            asked.execute_command("AI.INFO", "crowd")
            asked.execute_command("AI.MODELEXECUTE", "single", "INPUTS", 1, "a", "OUTPUTS", 1, "c")
            asked.execute_command("AI.INFO", "crowd")
            before, _, after = asked.execute()
            calls = before.index(b"calls") + 1
            waits.append(after[calls] - before[calls])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(waits)[5] <= 2, "one turn of the other model, not twelve"


def test_many_clients_with_mixed_shapes_each_get_their_own_answer(start: Callable[..., Any]) -> None:
    database = start()
    database.worker()
    database.worker()
    admin = database.client()
    admin.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 8, "BLOB", "both")
    wrong: list[object] = []

    def ask(number: int) -> None:
        mine = database.client()
        for turn in range(40):
            rows, columns = 1 + (number + turn) % 3, 1 + number % 2
            value = number * 100 + turn
            count = rows * columns
            mine.execute_command("AI.TENSORSET", f"a{number}", "INT64", rows, columns, "VALUES", *[value] * count)
            mine.execute_command(
                "AI.MODELEXECUTE",
                "m",
                "INPUTS",
                2,
                f"a{number}",
                f"a{number}",
                "OUTPUTS",
                2,
                f"s{number}",
                f"p{number}",
            )
            if mine.execute_command("AI.TENSORGET", f"s{number}", "VALUES") != [2 * value] * count:
                wrong.append((number, turn, "sum"))
            if mine.execute_command("AI.TENSORGET", f"p{number}", "VALUES") != [value * value] * count:
                wrong.append((number, turn, "product"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def figures(client: redis.Redis, key: str) -> dict[str, Any]:
    """What AI._WORKER FIGURES says of a model."""
    (row,) = client.execute_command("AI._WORKER", "FIGURES", key)
    return {name.decode(): value for name, value in zip(row[::2], row[1::2], strict=True)}


def test_figures_tell_batches_queue_and_latencies(client: redis.Redis, callers: Callers, hold: Any) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BATCHSIZE", 4, "BLOB", "echo")
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 1, 2)
    run = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    client.execute_command(*run)
    release = hold()
    for _ in range(7):
        callers.send(*run)
    until(lambda: figures(client, "m")["waiting"] == 7)
    time.sleep(0.05)
    assert release() == [b"OK"] * 7
    found = figures(client, "m")
    assert (found["calls"], found["errors"], found["waiting"]) == (8, 0, 0)
    assert (found["batches"], found["largest_batch"], found["batch_sizes"]) == (3, 4, [1, 1, 4, 2])
    ends, counts = found["latencies"][::2], found["latencies"][1::2]
    assert sum(counts) == 8
    assert ends == sorted(ends)
    assert found["p99"] >= found["p50"] >= 50_000
    assert found["p99"] == ends[-1]
    assert client.execute_command("AI.INFO", "m", "RESETSTAT") == b"OK"
    found = figures(client, "m")
    assert (found["calls"], found["batches"], found["p50"], found["latencies"]) == (0, 0, 0, [])


def test_figures_of_a_graph_count_each_of_its_models(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "slow 0.05")
    client.execute_command("AI.MODELSTORE", "n", "TORCH", "CPU", "BLOB", "echo")
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 1, 2)
    client.execute_command(
        "AI.DAGEXECUTE", "LOAD", 1, "x", "|>", "AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y",
        "|>", "AI.MODELEXECUTE", "n", "INPUTS", 1, "y", "OUTPUTS", 1, "z",
    )  # fmt: skip
    assert figures(client, "m")["p50"] >= 50_000
    assert 0 < figures(client, "n")["p50"] < 50_000
    assert figures(client, "n")["batches"] == 1


def test_figures_of_what_is_no_model_are_nil(client: redis.Redis) -> None:
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 1, 2)
    assert client.execute_command("AI._WORKER", "FIGURES", "x", "nothing") == [None, None]
