"""What survives: RDB, append-only file, DUMP, COPY, replication, and what damaged payloads do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def fill(client: redis.Redis) -> None:
    """One of everything that can be stored."""
    client.execute_command("AI.TENSORSET", "f", "FLOAT", 2, 2, "VALUES", 1.5, -2, 3, 4)
    client.execute_command("AI.TENSORSET", "text", "STRING", 2, "VALUES", "héllo", "")
    client.execute_command("AI.TENSORSET", "big", "UINT8", 100_000, "BLOB", random.Random(1).randbytes(100_000))
    client.execute_command("AI.TENSORSET", "bool", "BOOL", 1, "VALUES", 1)
    client.execute_command(
        "AI.MODELSTORE",
        "m",
        "TORCH",
        "CPU",
        "TAG",
        "v1",
        "BATCHSIZE",
        4,
        "MINBATCHSIZE",
        1,
        "MINBATCHTIMEOUT",
        5,
        "BLOB",
        "both",
    )
    client.execute_command("AI.MODELSTORE", "tf", "TF", "CPU", "INPUTS", 2, "a", "b", "OUTPUTS", 1, "c", "BLOB", "add")
    client.execute_command("AI.MODELSTORE", "open", "TORCH", "CPU", "BLOB", "add")  # its outputs' number is not known
    client.execute_command("AI.SCRIPTSTORE", "s", "CPU", "TAG", "t", "ENTRY_POINTS", 1, "sum", "SOURCE", "words")
    client.execute_command("AI.SCRIPTSET", "old", "CPU", "SOURCE", "words")


def contents(client: redis.Redis) -> dict[str, Any]:
    """Everything that `fill` stored, as replies."""
    found = {key: client.execute_command("AI.TENSORGET", key) for key in ("f", "text", "big", "bool")}
    found |= {key: client.execute_command("AI.MODELGET", key) for key in ("m", "tf", "open")}
    return found | {key: client.execute_command("AI.SCRIPTGET", key) for key in ("s", "old")}


def runs(client: redis.Redis) -> None:
    """The stored models and scripts run."""
    client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "f", "f", "OUTPUTS", 2, "x", "y")
    assert client.execute_command("AI.TENSORGET", "x", "VALUES") == [b"3", b"-4", b"6", b"8"]
    client.execute_command("AI.MODELEXECUTE", "tf", "INPUTS", 2, "f", "f", "OUTPUTS", 1, "x")
    client.execute_command("AI.SCRIPTEXECUTE", "s", "sum", "INPUTS", 1, "f", "OUTPUTS", 1, "x")
    client.execute_command("AI.SCRIPTRUN", "old", "sum", "INPUTS", "f", "f", "OUTPUTS", "x")
    assert client.execute_command("AI.TENSORGET", "x", "VALUES") == [b"3", b"-4", b"6", b"8"]
    client.delete("x", "y")


@pytest.mark.parametrize(
    ("options", "rewrite"),
    [
        ((), None),
        (("--appendonly", "yes", "--appendfsync", "always"), None),
        (("--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--appendfsync", "always"), "BGREWRITEAOF"),
    ],
    ids=["rdb", "aof", "rewritten-aof"],
)
def test_a_restart_keeps_everything_and_models_run_at_once(
    start: Callable[..., Any], options: tuple[str, ...], rewrite: str | None
) -> None:
    database = start(*options)
    client = database.client()
    workers = [database.worker(), database.worker("TF")]
    fill(client)
    before = contents(client)
    if rewrite:
        client.execute_command(rewrite)
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
        assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    if not options:
        client.save()
    database.restart(kill=bool(options))
    for worker in workers:
        worker.wait(10)
    client = database.client()
    assert contents(client) == before
    database.worker()
    database.worker("TF")
    runs(client)


def test_a_run_that_comes_before_its_worker_after_a_restart_waits_for_it(start: Callable[..., Any]) -> None:
    database = start()
    client = database.client()
    worker = database.worker()
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "echo")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1)
    client.save()
    database.restart()
    worker.wait(10)
    connection = database.client().connection_pool.get_connection()
    connection.send_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
    database.supervisor("TORCH/CPU/1")
    assert connection.read_response() == b"OK"
    connection.disconnect()


def test_dump_and_restore_keep_everything(client: redis.Redis) -> None:
    fill(client)
    before = contents(client)
    for key in before:
        payload = client.dump(key)
        client.delete(key)
        client.restore(key, 0, payload)
    assert contents(client) == before
    runs(client)


def test_copies_are_equal_and_independent(client: redis.Redis) -> None:
    fill(client)
    before = contents(client)
    for key in before:
        client.copy(key, f"copy-{key}")
        assert client.execute_command("DEBUG", "DIGEST-VALUE", key) == client.execute_command(
            "DEBUG", "DIGEST-VALUE", f"copy-{key}"
        )
        client.delete(key)
        client.rename(f"copy-{key}", key)
    assert contents(client) == before
    runs(client)


def test_digests_tell_different_values_apart(client: redis.Redis) -> None:
    fill(client)
    digests = [client.execute_command("DEBUG", "DIGEST-VALUE", key)[0] for key in contents(client)]
    assert len(set(digests)) == len(digests)


def test_memory_usage_tells_the_size(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "echo", "x" * 50_000)
    assert 50_000 < int(client.memory_usage("m") or 0) < 52_000


def test_a_flipped_byte_anywhere_is_refused(client: redis.Redis) -> None:
    """The payload's own CRC is not checked here, so only the module stands between a damaged value and the database."""
    fill(client)
    client.execute_command("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1")
    rng = random.Random(3)
    for key in ("f", "text", "bool", "m", "tf", "s", "old"):
        payload = client.dump(key)
        for at in range(1, len(payload) - 10):  # byte 0 says which of the server's own types it is
            damaged = bytearray(payload)
            damaged[at] ^= 1 << rng.randrange(8)
            with pytest.raises(redis.ResponseError):
                client.restore("copy", 0, bytes(damaged))
    assert not client.exists("copy")
    client.execute_command("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "0")


def test_a_replica_holds_the_same_and_answers_reads(start: Callable[..., Any], port: int) -> None:
    master = start("--port", str(port), "--bind", "127.0.0.1")
    master.worker()
    master.worker("TF")
    client = master.client()
    fill(client)
    replica = start("--replicaof", "127.0.0.1", str(port))
    mirror = replica.client()
    until(lambda: mirror.info("replication")["master_link_status"] == "up")
    client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "f", "f", "OUTPUTS", 2, "x", "y")
    run = ("|>", "AI.MODELEXECUTE", "m", "INPUTS", 2, "f", "f", "OUTPUTS", 2, "z", "unused")
    client.execute_command("AI.DAGEXECUTE", "LOAD", 1, "f", "PERSIST", 1, "z", *run)
    client.execute_command("AI.MODELSTORE", "later", "TORCH", "CPU", "TAG", "v9", "BLOB", "echo")
    client.execute_command("AI.SCRIPTDEL", "old")
    client.execute_command("AI.SCRIPTSET", "old", "CPU", "SOURCE", "words")
    client.execute_command("AI.TENSORSET", "last", "FLOAT", 1)
    until(lambda: mirror.exists("last"))
    assert contents(mirror) == contents(client)
    for key in ("x", "y", "z"):
        assert mirror.execute_command("AI.TENSORGET", key) == client.execute_command("AI.TENSORGET", key)
    meta = mirror.execute_command("AI.MODELGET", "later", "META")
    assert meta[5] == b"v9"
    assert meta == client.execute_command("AI.MODELGET", "later", "META")
    with pytest.raises(redis.ReadOnlyError):
        mirror.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "f", "f", "OUTPUTS", 2, "x", "y")
    replica.worker()
    assert mirror.execute_command(
        "AI.DAGEXECUTE_RO", "LOAD", 1, "f",
        "|>", "AI.MODELEXECUTE", "m", "INPUTS", 2, "f", "f", "OUTPUTS", 2, "a", "b", "|>", "AI.TENSORGET", "a", "VALUES",
    ) == [b"OK", [b"3", b"-4", b"6", b"8"]]  # fmt: skip


def test_empty_outputs_and_tensors_above_another_servers_limit_are_kept_and_mirrored(
    start: Callable[..., Any], port: int
) -> None:
    """A detector that finds nothing answers with no rows, which nobody may send."""
    master = start("--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--enable-debug-command", "yes")
    master.worker()
    client = master.client()
    replica = start("--replicaof", "127.0.0.1", str(port), module=("MAX_TENSOR_BYTES", "1024"))
    mirror = replica.client()
    until(lambda: mirror.info("replication")["master_link_status"] == "up")
    client.execute_command("AI.TENSORSET", "f", "FLOAT", 2, 1000)
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "none")
    client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "f", "OUTPUTS", 1, "none")
    stored = [client.execute_command("AI.TENSORGET", key) for key in ("none", "f")]
    assert stored[0] == [b"dtype", b"FLOAT", b"shape", [0, 1000], b"blob", b""]
    client.execute_command("AI.TENSORSET", "last", "FLOAT", 1)
    until(lambda: mirror.exists("last"))
    assert [mirror.execute_command("AI.TENSORGET", key) for key in ("none", "f")] == stored
    client.execute_command("DEBUG", "LOADAOF")
    assert [client.execute_command("AI.TENSORGET", key) for key in ("none", "f")] == stored
    client.execute_command("BGREWRITEAOF")
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    master.restart(kill=True)
    assert [master.client().execute_command("AI.TENSORGET", key) for key in ("none", "f")] == stored
    with pytest.raises(redis.ResponseError, match="invalid or negative value found in tensor shape"):
        master.client().execute_command("AI.TENSORSET", "g", "FLOAT", 0)


def store_without_end(client: redis.Redis) -> None:
    for i in range(30):
        client.execute_command("AI.TENSORSET", f"n{i}", "UINT8", 1_000_000, "BLOB", bytes(1_000_000))


def test_keys_expire_and_are_evicted_like_others(start: Callable[..., Any]) -> None:
    database = start("--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru")
    client = database.client()
    client.execute_command("AI.TENSORSET", "short", "FLOAT", 1)
    client.pexpire("short", 20)
    for i in range(60):
        client.execute_command("AI.TENSORSET", f"t{i}", "UINT8", 1_000_000, "BLOB", bytes(1_000_000))
    until(lambda: not client.exists("short"))
    assert 5 < client.dbsize() < 20
    assert client.info("memory")["used_memory"] < 22_000_000
    client.config_set("maxmemory-policy", "noeviction")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        store_without_end(client)
