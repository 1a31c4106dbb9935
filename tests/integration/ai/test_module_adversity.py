"""What a server does to its clients while runs are under way: pauses, failovers, unblocking, other databases, other protocols."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The condition's first true value; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.005)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def background(client: redis.Redis, *words: Any) -> tuple[threading.Thread, list[Any]]:
    """Runs a command in a thread; the list holds its reply, or its error."""
    replies: list[Any] = []

    def run() -> None:
        try:
            replies.append(client.execute_command(*words))
        except redis.RedisError as error:
            replies.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, replies


def busy(database: Any, count: int = 1) -> bool:
    return sum(worker["state"] == "busy" for worker in database.workers()) == count


@pytest.fixture
def waiting(start: Callable[..., Any], tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A server with replicas' stream and append-only file, a model `w` that waits for the file given, and a tensor `x`."""
    database = start("--appendonly", "yes")
    database.worker()
    client = database.client()
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 2, "VALUES", 1, 2)
    client.execute_command("AI.MODELSTORE", "w", "TORCH", "CPU", "BLOB", f"wait {tmp_path / 'go'}")
    yield database, tmp_path / "go"
    (tmp_path / "go").touch()


RUN = ("AI.MODELEXECUTE", "w", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
GRAPH = (
    "AI.DAGEXECUTE",
    "LOAD",
    1,
    "x",
    "PERSIST",
    1,
    "z",
    "|>",
    "AI.MODELEXECUTE",
    "w",
    "INPUTS",
    1,
    "x",
    "OUTPUTS",
    1,
    "z",
)
READ = ("AI.DAGEXECUTE_RO", "LOAD", 1, "x", "|>", "AI.MODELEXECUTE", "w", "INPUTS", 1, "x", "OUTPUTS", 1, "z",
        "|>", "AI.TENSORGET", "z", "VALUES")  # fmt: skip


def test_what_ends_in_a_pause_of_writes_is_stored_after_it(waiting: tuple[Any, Path]) -> None:
    database, go = waiting
    client = database.client()
    writers = [background(database.client(), *words) for words in (RUN, GRAPH)]
    until(lambda: client.info("modules")["ai_blocked_requests"] == 2)
    reader, read = background(database.client(), *READ)
    until(lambda: client.info("modules")["ai_blocked_requests"] == 3)
    client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    go.touch()
    reader.join(10)
    assert read == [[b"OK", [b"1", b"2"]]]
    until(lambda: busy(database, 0))
    assert client.exists("y", "z") == 0
    assert client.info("modules")["ai_blocked_requests"] == 2
    client.execute_command("CLIENT", "UNPAUSE")
    for thread, replies in writers:
        thread.join(10)
        assert replies in ([b"OK"], [[b"OK"]])
    assert client.execute_command("AI.TENSORGET", "y", "VALUES") == [b"1", b"2"]
    database.restart(kill=True)
    assert database.client().exists("y", "z") == 2


def test_a_caller_that_leaves_in_a_pause_leaves_nothing(waiting: tuple[Any, Path]) -> None:
    database, go = waiting
    client = database.client()
    leaving = redis.Redis(unix_socket_path=str(database.socket), retry=Retry(NoBackoff(), 0))  # sends nothing again
    run, replies = background(leaving, *RUN)
    until(lambda: busy(database))
    client.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
    go.touch()
    until(lambda: busy(database, 0))
    (caller,) = [row for row in client.client_list() if row["cmd"].lower() == "ai.modelexecute"]
    client.execute_command("CLIENT", "KILL", "ID", caller["id"])
    until(lambda: client.info("modules")["ai_blocked_requests"] == 0)
    client.execute_command("CLIENT", "UNPAUSE")
    run.join(20)
    assert isinstance(replies[0], redis.ConnectionError)
    assert client.exists("y") == 0
    leaving.close()


def test_a_primary_under_load_hands_over_to_its_replica(start: Callable[..., Any]) -> None:
    ports = [free_port(), free_port()]
    primary, replica = (start("--port", str(port), "--enable-debug-command", "yes") for port in ports)
    primary.worker()
    client, mirror = primary.client(), replica.client()
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 2, "VALUES", 1, 2)
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "echo")
    mirror.execute_command("REPLICAOF", "127.0.0.1", ports[0])
    until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
    refused: list[str] = []
    ended = threading.Event()

    def load(number: int) -> None:
        caller = primary.client()
        while not ended.is_set():
            try:
                caller.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, f"y{number}")
            except redis.RedisError as error:
                refused.append(str(error))
                return

    callers = [threading.Thread(target=load, args=(number,)) for number in range(6)]
    for caller in callers:
        caller.start()
    try:
        until(lambda: client.exists("y0", "y5") == 2)
        client.execute_command("FAILOVER", "TO", "127.0.0.1", ports[1])
        until(lambda: mirror.info("replication")["role"] == "master")
        until(lambda: client.info("replication")["role"] == "slave")
    finally:
        ended.set()
        for caller in callers:
            caller.join(20)
    told = ["UNBLOCKED", "read only"]
    if client.info("server")["redis_version"].startswith("6."):
        told.append("pauses writes")  # that server does not tell when it is about to sleep
    assert all(any(words in text for words in told) for text in refused), refused
    until(lambda: client.info("replication")["master_link_status"] == "up")
    replica.worker()
    assert mirror.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "z") == b"OK"
    until(lambda: client.exists("z"))
    assert client.execute_command("DEBUG", "DIGEST") == mirror.execute_command("DEBUG", "DIGEST")


def test_a_demoted_primary_lets_go_of_its_callers(waiting: tuple[Any, Path], port: int) -> None:
    database, _ = waiting
    client = database.client()
    runs = [background(database.client(), *words) for words in (RUN, GRAPH, RUN)]
    until(lambda: client.info("modules")["ai_blocked_requests"] == 3)
    client.execute_command("REPLICAOF", "127.0.0.1", port)
    for thread, replies in runs:
        thread.join(20)
        assert isinstance(replies[0], redis.RedisError)
    client.execute_command("REPLICAOF", "NO", "ONE")
    assert client.info("modules")["ai_blocked_requests"] == client.info("modules")["ai_waiting_jobs"] == 0
    assert client.exists("y", "z") == 0


def test_nobody_can_unblock_a_worker_or_a_caller(waiting: tuple[Any, Path]) -> None:
    database, go = waiting
    client = database.client()
    run, replies = background(database.client(), *RUN)
    until(lambda: busy(database))
    database.worker()
    for row in client.client_list():
        for how in ("TIMEOUT", "ERROR"):
            assert client.execute_command("CLIENT", "UNBLOCK", row["id"], how) == 0
    go.touch()
    run.join(10)
    assert replies == [b"OK"]
    assert [client.execute_command(*RUN) for _ in range(3)] == [b"OK"] * 3


def test_no_reply_has_a_line_break_that_the_caller_sent(client: redis.Redis) -> None:
    client.execute_command("AI.TENSORSET", "x", "FLOAT", 2, "VALUES", 1, 2)
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "echo")
    client.execute_command("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "sum", "SOURCE", "words")
    breaking = "a\r\n+OK\r\n:1"
    for words in [
        ("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y", breaking),
        ("AI.SCRIPTEXECUTE", "s", "sum", "INPUTS", 1, "x", "OUTPUTS", 1, "y", breaking),
        ("AI.SCRIPTEXECUTE", "s", breaking, "INPUTS", 1, "x", "OUTPUTS", 1, "y"),
        ("AI.DAGEXECUTE", "LOAD", 1, "x", breaking, "|>", "AI.TENSORGET", "x"),
    ]:
        with pytest.raises(redis.ResponseError):
            client.execute_command(*words)
        assert client.echo("next") == b"next"
