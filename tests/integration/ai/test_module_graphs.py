"""AI.DAGEXECUTE and its relatives."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis


def texts(reply: list[Any]) -> list[Any]:
    return [str(part) if isinstance(part, Exception) else part for part in reply]


def refused(client: redis.Redis, *words: object) -> str:
    with pytest.raises(redis.ResponseError) as caught:
        client.execute_command(*words)
    return str(caught.value)


@pytest.fixture
def stored(client: redis.Redis) -> redis.Redis:
    """A database with models `both`, `add`, `no` (fails) on TORCH, `onnx` (adds) on another device, a script, a tensor."""
    for key, backend, device, program in [
        ("both", "TORCH", "CPU", "both"),
        ("add", "TORCH", "CPU", "add"),
        ("no", "TORCH", "CPU", "fail no"),
        ("onnx", "ONNX", "GPU:1", "add"),
    ]:
        client.execute_command("AI.MODELSTORE", key, backend, device, "BLOB", program)
    client.execute_command("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "sum", "SOURCE", "words")
    client.execute_command("AI.SCRIPTSET", "old", "CPU", "SOURCE", "words")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 2, "VALUES", 1, 2)
    return client


def test_a_graph_hands_tensors_from_step_to_step(stored: redis.Redis, database: Any) -> None:
    before = next(w["units"] for w in database.workers() if w["backend"] == "TORCH")
    reply = stored.execute_command(
        "AI.DAGEXECUTE", "LOAD", 1, "a", "PERSIST", 2, "out", "a",
        "|>", "AI.TENSORSET", "x", "FLOAT", 2, "VALUES", 5, 6,
        "|>", "AI.MODELEXECUTE", "both", "INPUTS", 2, "a", "x", "OUTPUTS", 2, "sum", "product",
        "|>", "AI.SCRIPTEXECUTE", "s", "sum", "INPUTS", 2, "sum", "product", "OUTPUTS", 1, "out",
        "|>", "AI.TENSORGET", "out", "VALUES",
        "|>", "AI.TENSORGET", "sum", "META",
    )  # fmt: skip
    assert reply == [b"OK", b"OK", b"OK", [b"11", b"20"], [b"dtype", b"FLOAT", b"shape", [2]]]
    assert stored.execute_command("AI.TENSORGET", "out", "VALUES") == [b"11", b"20"]
    assert sorted(stored.keys()) == sorted([b"both", b"add", b"no", b"onnx", b"s", b"old", b"a", b"out"])
    after = next(w["units"] for w in database.workers() if w["backend"] == "TORCH")
    assert after == before + 1, "a graph of one device is one hop"


def test_a_name_may_be_written_again(stored: redis.Redis) -> None:
    reply = stored.execute_command(
        "AI.DAGEXECUTE_RO", "LOAD", 1, "a",
        "|>", "AI.MODELEXECUTE", "add", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "a",
        "|>", "AI.MODELEXECUTE", "add", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "a",
        "|>", "AI.TENSORGET", "a", "VALUES",
    )  # fmt: skip
    assert reply == [b"OK", b"OK", [b"4", b"8"]]
    assert stored.execute_command("AI.TENSORGET", "a", "VALUES") == [b"1", b"2"]


def test_steps_on_several_devices_meet_again(stored: redis.Redis) -> None:
    reply = stored.execute_command(
        "AI.DAGEXECUTE", "LOAD", 1, "a", "PERSIST", 1, "z",
        "|>", "AI.MODELEXECUTE", "add", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "x",
        "|>", "AI.MODELEXECUTE", "onnx", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "y",
        "|>", "AI.MODELEXECUTE", "both", "INPUTS", 2, "x", "y", "OUTPUTS", 2, "z", "unused",
        "|>", "AI.MODELEXECUTE", "onnx", "INPUTS", 2, "z", "x", "OUTPUTS", 1, "z",
        "|>", "AI.TENSORGET", "z", "VALUES",
    )  # fmt: skip
    assert reply == [b"OK", b"OK", b"OK", b"OK", [b"6", b"12"]]
    assert stored.execute_command("AI.TENSORGET", "z", "VALUES") == [b"6", b"12"]


def test_independent_steps_on_different_devices_run_at_the_same_time(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "one", "TORCH", "CPU", "BLOB", "slow 0.4")
    client.execute_command("AI.MODELSTORE", "two", "ONNX", "GPU:1", "BLOB", "slow 0.4")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1)
    began = time.monotonic()
    client.execute_command(
        "AI.DAGEXECUTE", "LOAD", 1, "a",
        "|>", "AI.MODELEXECUTE", "one", "INPUTS", 1, "a", "OUTPUTS", 1, "x",
        "|>", "AI.MODELEXECUTE", "two", "INPUTS", 1, "a", "OUTPUTS", 1, "y",
    )  # fmt: skip
    assert time.monotonic() - began < 0.75


def test_after_a_failed_step_its_error_stands_inline_and_later_steps_are_na(stored: redis.Redis) -> None:
    reply = stored.execute_command(
        "AI.DAGEXECUTE", "LOAD", 1, "a", "PERSIST", 1, "x",
        "|>", "AI.MODELEXECUTE", "add", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "x",
        "|>", "AI.MODELEXECUTE", "no", "INPUTS", 1, "a", "OUTPUTS", 1, "y",
        "|>", "AI.MODELEXECUTE", "add", "INPUTS", 2, "y", "a", "OUTPUTS", 1, "z",
        "|>", "AI.TENSORGET", "z", "VALUES",
    )  # fmt: skip
    assert texts(reply) == [b"OK", "no", b"NA", b"NA"]
    assert not stored.exists("x"), "a graph that fails persists nothing"


def test_a_graph_without_models_is_answered_at_once(client: redis.Redis) -> None:
    reply = client.execute_command(
        "AI.DAGEXECUTE",
        "PERSIST",
        1,
        "t",
        "|>",
        "AI.TENSORSET",
        "t",
        "INT8",
        1,
        "VALUES",
        3,
        "|>",
        "AI.TENSORGET",
        "t",
        "VALUES",
    )
    assert reply == [b"OK", [3]]
    assert client.execute_command("AI.TENSORGET", "t", "VALUES") == [3]


def test_the_older_graphs_hold_the_older_commands(stored: redis.Redis) -> None:
    reply = stored.execute_command(
        "AI.DAGRUN", "LOAD", 1, "a", "PERSIST", 1, "y", "TIMEOUT", 5000,
        "|>", "AI.MODELRUN", "add", "INPUTS", "a", "a", "OUTPUTS", "x",
        "|>", "AI.SCRIPTRUN", "old", "sum", "INPUTS", "x", "$", "x", "x", "OUTPUTS", "y",
    )  # fmt: skip
    assert reply == [b"OK", b"OK"]
    assert stored.execute_command("AI.TENSORGET", "y", "VALUES") == [b"6", b"12"]
    assert stored.execute_command(
        "AI.DAGRUN_RO", "|>", "AI.TENSORSET", "q", "FLOAT", 1, "VALUES", 1, "|>", "AI.TENSORGET", "q", "VALUES"
    ) == [b"OK", [b"1"]]


def test_a_graph_that_waits_too_long_is_timed_out_as_a_whole(client: redis.Redis, database: Any) -> None:
    client.execute_command("AI.MODELSTORE", "one", "TORCH", "CPU", "BLOB", "slow 0.3")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1)
    run = ("|>", "AI.MODELEXECUTE", "one", "INPUTS", 1, "a", "OUTPUTS", 1, "a")
    connection = database.client().connection_pool.get_connection()
    connection.send_command("AI.DAGEXECUTE", "LOAD", 1, "a", *run)
    while not any(w["state"] == "busy" for w in database.workers()):
        time.sleep(0.002)
    assert client.execute_command("AI.DAGEXECUTE", "LOAD", 1, "a", "TIMEOUT", 20, *run) == b"TIMEDOUT"
    assert connection.read_response() == [b"OK"]
    connection.disconnect()


def test_a_long_graph_runs(stored: redis.Redis) -> None:
    words: list[Any] = ["AI.DAGEXECUTE", "LOAD", 1, "a"]
    for _ in range(200):
        words += ["|>", "AI.MODELEXECUTE", "add", "INPUTS", 2, "a", "one", "OUTPUTS", 1, "a"]
    words[4:4] = ["|>", "AI.TENSORSET", "one", "FLOAT", 2, "VALUES", 1, 1]
    assert stored.execute_command(*words, "|>", "AI.TENSORGET", "a", "VALUES")[-1] == [b"201", b"202"]


GET = ("|>", "AI.TENSORGET", "a")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("AI.DAGEXECUTE",), "missing arguments for 'AI.DAGEXECUTE' command"),
        (("AI.DAGRUN",), "missing arguments for 'AI.DAGRUN' command"),
        (("AI.DAGEXECUTE", "LOAD"), "missing arguments for 'AI.DAGEXECUTE' command"),
        (("AI.DAGEXECUTE", "ROUTING", "x"), "DAG is empty"),
        (("AI.DAGEXECUTE", "ROUTING", "x", "|>"), "DAG is empty"),
        (
            ("AI.DAGEXECUTE", *GET),
            "AI.DAGEXECUTE and AI.DAGEXECUTE_RO commands must contain at least one out of ROUTING, LOAD, PERSIST parameters",
        ),
        (("AI.DAGEXECUTE", "LOAD", 1, "none", *GET), "tensor key is empty or in a different shard"),
        (
            ("AI.DAGEXECUTE", "LOAD", 1, "both", *GET),
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        (("AI.DAGEXECUTE", "LOAD", "x", "a", *GET), "Invalid or negative value found in number of keys to LOAD"),
        (
            ("AI.DAGEXECUTE", "LOAD", 9, "a", *GET),
            "Number of keys to LOAD in AI.DAGEXECUTE command does not match the number of given arguments",
        ),
        (("AI.DAGEXECUTE", "ROUTING", "x", *GET), "INPUT key cannot be found in DAG"),
        (("AI.DAGEXECUTE", "PERSIST", 1, "none", "LOAD", 1, "a", *GET), "PERSIST key cannot be found in DAG"),
        (("AI.DAGEXECUTE_RO", "PERSIST", 1, "a", *GET), "PERSIST cannot be specified in a read-only DAG"),
        (("AI.DAGEXECUTE", "ROUTING", "x", "|>", "GET", "a"), "Unsupported command within DAG"),
        (
            ("AI.DAGEXECUTE", "LOAD", 1, "a", "|>", "AI.MODELRUN", "add", "INPUTS", "a", "a", "OUTPUTS", "b"),
            "Deprecated AI.MODELRUN cannot be used in AI.DAGEXECUTE command",
        ),
        (
            ("AI.DAGRUN", "LOAD", 1, "a", "|>", "AI.MODELEXECUTE", "add", "INPUTS", 1, "a", "OUTPUTS", 1, "b"),
            "AI.MODELEXECUTE cannot be used in a deprecated AI.DAGRUN command",
        ),
        (
            ("AI.DAGEXECUTE", "LOAD", 1, "a", "|>", "AI.MODELEXECUTE", "none", "INPUTS", 1, "a", "OUTPUTS", 1, "b"),
            "model key is empty",
        ),
        (("AI.DAGEXECUTE", "LOAD", 1, "a", "TIMEOUT", "x", *GET), "Invalid value for TIMEOUT"),
        (("AI.DAGEXECUTE", "LOAD", 1, "a", "LOAD", 1, "a", *GET), "Invalid DAG command. Unexpected argument: LOAD"),
        (("AI.DAGEXECUTE", "ROUTING", "x", "|>", "AI.TENSORSET", "t", "FOO", 1), "invalid data type"),
    ],
)
def test_a_wrong_graph_says_what_is_wrong_and_runs_nothing(
    stored: redis.Redis, words: tuple[object, ...], text: str
) -> None:
    assert refused(stored, *words) == text


def test_keys_of_graphs_and_runs_are_known(client: redis.Redis) -> None:
    def keys(*words: object) -> list[str]:
        return [
            key.decode() if isinstance(key, bytes) else key for key in client.execute_command("COMMAND GETKEYS", *words)
        ]

    assert keys("AI.TENSORSET", "t", "FLOAT", 1) == ["t"]
    assert keys("AI.MODELEXECUTE", "m", "INPUTS", 2, "INPUTS", "OUTPUTS", "OUTPUTS", 1, "c") == [
        "m",
        "INPUTS",
        "OUTPUTS",
        "c",
    ]
    assert keys("AI.MODELRUN", "m", "INPUTS", "a", "b", "OUTPUTS", "c") == ["m", "a", "b", "c"]
    assert keys("AI.SCRIPTRUN", "s", "f", "INPUTS", "a", "$", "b", "OUTPUTS", "c") == ["s", "a", "b", "c"]
    assert keys("AI.SCRIPTEXECUTE", "s", "f", "KEYS", 1, "k", "INPUTS", 1, "a", "OUTPUTS", 1, "c") == [
        "s",
        "k",
        "a",
        "c",
    ]
    graph = ("AI.DAGEXECUTE", "LOAD", 1, "a", "PERSIST", 1, "b", "ROUTING", "r")
    step = ("|>", "AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
    assert keys(*graph, *step) == ["a", "b", "r", "m"]
    assert keys("AI.DAGEXECUTE", "ROUTING", "r", *step) == ["r", "m"]
    assert keys("AI.DAGRUN", *step) == ["m"]


def test_an_acl_user_reads_and_writes_only_the_keys_it_may(stored: redis.Redis, database: Any) -> None:
    stored.execute_command(
        "ACL", "SETUSER", "member", "on", "nopass", "+@all", "-@admin", "-AI._WORKER", "~in.*", "~out.*"
    )
    member = database.client()
    member.execute_command("AUTH", "member", "x")
    stored.copy("a", "in.a")
    stored.copy("add", "in.add")
    run = ("AI.MODELEXECUTE", "in.add", "INPUTS", 2, "in.a", "in.a", "OUTPUTS", 1)
    assert member.execute_command(*run, "out.x") == b"OK"
    for words in [(*run, "elsewhere"), ("AI.MODELEXECUTE", "add", *run[2:], "out.x"), ("AI._WORKER", "LIST")]:
        with pytest.raises(redis.exceptions.NoPermissionError):
            member.execute_command(*words)
    assert member.execute_command("AI.DAGEXECUTE", "LOAD", 1, "in.a", "|>", "AI.TENSORGET", "in.a", "VALUES")
    with pytest.raises(redis.exceptions.NoPermissionError):
        member.execute_command("AI.DAGEXECUTE", "LOAD", 1, "a", "|>", "AI.TENSORGET", "a", "VALUES")
    routed = ("AI.DAGEXECUTE", "ROUTING", "in.x", "|>", "AI.TENSORSET", "t", "FLOAT", 1, "VALUES", 1)
    step = ("INPUTS", 2, "t", "t", "OUTPUTS", 1, "t")
    assert member.execute_command(*routed, "|>", "AI.MODELEXECUTE", "in.add", *step) == [b"OK", b"OK"]
    with pytest.raises(redis.exceptions.NoPermissionError):
        member.execute_command(*routed, "|>", "AI.MODELEXECUTE", "add", *step)
    stored.execute_command("ACL", "DELUSER", "member")


def test_info_has_the_modules_sections(start: Callable[..., Any]) -> None:
    database = start()
    client = database.client()
    raw = client.connection_pool.get_connection()
    raw.send_command("INFO", "MODULES")
    text = raw.read_response().decode()
    for section in ("ai_versions", "ai_git", "ai_load_time_configs", "ai_backends_info", "ai_cpu"):
        assert f"# {section}\r\n" in text
    assert "ai_queue_CPU_bthread_n1_used_cpu_total:" in text
    assert "ai_Torch_version" not in text
    database.worker()
    raw.send_command("INFO", "EVERYTHING")
    text = raw.read_response().decode()
    assert "ai_Torch_version:toy\r\n" in text
    assert all(":" in line or line.startswith("#") for line in text.split("\r\n") if line)


def test_the_slow_log_shows_graphs_with_the_time_they_ran(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "slow", "TORCH", "CPU", "BLOB", "slow 0.05")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1)
    client.config_set("slowlog-log-slower-than", 20_000)
    client.slowlog_reset()
    client.execute_command(
        "AI.DAGEXECUTE", "LOAD", 1, "a", "|>", "AI.MODELEXECUTE", "slow", "INPUTS", 1, "a", "OUTPUTS", 1, "b"
    )
    entries = [entry for entry in client.slowlog_get() if entry["command"].startswith(b"AI.DAGEXECUTE")]
    assert len(entries) == 1
    assert entries[0]["duration"] >= 50_000
