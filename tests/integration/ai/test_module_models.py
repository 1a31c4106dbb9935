"""Models and scripts: storing, getting, running, deleting, and every way in which that can be said wrongly."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

BOTH = ("AI.MODELSTORE", "m", "TORCH", "CPU", "TAG", "v1", "BLOB", "both")


def refused(client: redis.Redis, *words: object) -> str:
    """The text of the error, `ERR ` included only where the server sends another prefix."""
    with pytest.raises(redis.ResponseError) as caught:
        client.execute_command(*words)
    return str(caught.value)


def tensor(client: redis.Redis, key: str, *values: float, kind: str = "FLOAT") -> None:
    client.execute_command("AI.TENSORSET", key, kind, len(values), "VALUES", *values)


def values(client: redis.Redis, key: str) -> list[float]:
    return [float(v) for v in client.execute_command("AI.TENSORGET", key, "VALUES")]


def test_a_model_is_stored_described_run_and_deleted(client: redis.Redis) -> None:
    assert client.execute_command(*BOTH) == b"OK"
    assert client.type("m") == b"AI__MODEL"
    meta = [
        b"backend", b"TORCH", b"device", b"CPU", b"tag", b"v1", b"batchsize", 0, b"minbatchsize", 0,
        b"inputs", [b"a", b"b"], b"outputs", [b"", b""], b"minbatchtimeout", 0,
    ]  # fmt: skip
    assert client.execute_command("AI.MODELGET", "m", "META") == meta
    assert client.execute_command("AI.MODELGET", "m", "BLOB") == b"both"
    assert client.execute_command("AI.MODELGET", "m") == [*meta, b"blob", b"both"]
    assert client.execute_command("AI.MODELGET", "m", "META", "BLOB") == [*meta, b"blob", b"both"]
    tensor(client, "a", 2, 3)
    tensor(client, "b", 4, 5)
    assert (
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "b", "OUTPUTS", 2, "sum", "product") == b"OK"
    )
    assert (values(client, "sum"), values(client, "product")) == ([6, 8], [8, 15])
    assert (
        client.execute_command("AI.MODELRUN", "m", "TIMEOUT", 1000, "INPUTS", "a", "b", "OUTPUTS", "sum", "product")
        == b"OK"
    )
    assert client.execute_command("AI._MODELSCAN") == [[b"m", b"v1"]]
    assert client.execute_command("AI.MODELDEL", "m") == b"OK"
    assert refused(client, "AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b") == "model key is empty"


def test_statistics_count_calls_samples_and_errors(client: redis.Redis) -> None:
    client.execute_command(*BOTH)
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 3, 2)
    client.execute_command("AI.TENSORSET", "c", "FLOAT", 5)
    for _ in range(2):
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 2, "x", "y")
    refused(client, "AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "c", "OUTPUTS", 2, "x", "y")
    row = client.execute_command("AI.INFO", "m")
    told = dict(zip(row[::2], row[1::2], strict=True))
    assert list(told) == [b"key", b"type", b"backend", b"device", b"tag", b"duration", b"samples", b"calls", b"errors"]
    assert (told[b"samples"], told[b"calls"], told[b"errors"]) == (6, 3, 1)
    assert told[b"duration"] > 0
    assert client.execute_command("AI.INFO", "m", "RESETSTAT") == b"OK"
    assert client.execute_command("AI.INFO", "m")[11::2] == [0, 0, 0, 0]
    client.execute_command("AI.SCRIPTSET", "s", "CPU", "SOURCE", "words")
    assert client.execute_command("AI.INFO", "s")[3::2] == [b"SCRIPT", b"TORCH", b"CPU", b"", 0, -1, 0, 0]
    assert refused(client, "AI.INFO", "nothing") == "cannot find run info for key"


def test_a_broken_model_is_refused_when_it_is_stored(client: redis.Redis) -> None:
    assert refused(client, "AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "broken") == "this model is broken"
    assert not client.exists("m")


def test_a_run_that_fails_says_why_on_one_line_and_writes_nothing(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "fail first line\nsecond line")
    tensor(client, "a", 1)
    assert refused(client, "AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b") == "first line second line"
    assert not client.exists("b")


def test_tensorflow_models_name_their_inputs_and_outputs(client: redis.Redis) -> None:
    head = ("AI.MODELSTORE", "m", "TF", "CPU")
    client.execute_command(*head, "INPUTS", 2, "a", "b", "OUTPUTS", 1, "mul", "BLOB", "add")
    meta = client.execute_command("AI.MODELGET", "m", "META")
    assert (meta[11], meta[13]) == ([b"a", b"b"], [b"mul"])
    client.execute_command("AI.MODELSET", "o", "TF", "CPU", "INPUTS", "a", "b", "OUTPUTS", "mul", "BLOB", "add")
    assert client.execute_command("AI.MODELGET", "o", "META")[11:14:2] == [[b"a", b"b"], [b"mul"]]
    for words, text in [
        (("BLOB", "add"), "INPUTS not specified for TF"),
        (("INPUTS", "x", "a", "OUTPUTS", 1, "b", "BLOB", "add"), "Invalid argument for input_count"),
        (("INPUTS", 9, "a", "b"), "number of model inputs does not match the number of given arguments"),
        (("INPUTS", 1, "a", "OUTPUTS", 9, "b"), "number of model outputs does not match the number of given arguments"),
        (("INPUTS", 1, "a", "OUTPUTS", 1, "b"), "Insufficient arguments, missing model BLOB"),
    ]:
        assert refused(client, *head, *words) == text
    assert (
        refused(client, "AI.MODELSTORE", "m", "TORCH", "CPU", "INPUTS", 1, "a", "OUTPUTS", 1, "b", "BLOB", "x")
        == "INPUTS argument should not be specified for this backend"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("m", "wrong number of arguments for 'AI.MODELSTORE' command"),
        ("m TORCH CPU BLOB", "wrong number of arguments for 'AI.MODELSTORE' command"),
        ("m PORCH CPU BLOB x", "unsupported backend"),
        ("m TORCH BATCHSIZE 4 BLOB", "Invalid DEVICE"),
        ("m TORCH CPU:1234567 BLOB x", "Invalid DEVICE"),
        ("m TORCH TPU BLOB x", "unsupported device"),
        ("m TORCH CPU BATCHSIZE x BLOB x", "Invalid argument for BATCHSIZE"),
        ("m TORCH CPU MINBATCHSIZE 2 BLOB x", "MINBATCHSIZE specified without BATCHSIZE"),
        ("m TORCH CPU BATCHSIZE 2 MINBATCHTIMEOUT 2 BLOB x", "MINBATCHTIMEOUT specified without MINBATCHSIZE"),
        ("m TORCH CPU BATCHSIZE 2 BLOB", "Insufficient arguments, missing model BLOB"),
        ("m TORCH GPU BLOB x", "GPU requested but Torch couldn't find CUDA"),
        ("m TFLITE CPU BLOB x", "Could not load backend"),
        ("m ONNX GPU:2 BLOB x", "Could not load backend"),
        ("text TORCH CPU BLOB echo", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ],
)
def test_a_wrong_modelstore_says_what_is_wrong(client: redis.Redis, words: str, text: str) -> None:
    client.set("text", "x")
    assert refused(client, "AI.MODELSTORE", *words.split()) == text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("m INPUTS 1 a OUTPUTS 1", "wrong number of arguments for 'AI.MODELEXECUTE' command"),
        ("none INPUTS 2 a a OUTPUTS 2 x y", "model key is empty"),
        ("a INPUTS 2 a a OUTPUTS 2 x y", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("m OUTPUTS 2 x y INPUTS 2 a a", "INPUTS not specified"),
        ("m INPUTS x a a OUTPUTS 2 x y", "Invalid argument for input_count"),
        ("m INPUTS 2 a a INPUTS 2 x y", "OUTPUTS not specified"),
        ("m INPUTS 2 a a OUTPUTS z x y", "Invalid argument for output_count"),
        ("m INPUTS 1 a OUTPUTS 2 x y", "Number of keys given as INPUTS here does not match model definition"),
        ("m INPUTS 2 a a OUTPUTS 1 x", "Number of keys given as OUTPUTS here does not match model definition"),
        ("m INPUTS 2 a none OUTPUTS 2 x y", "tensor key is empty or in a different shard"),
        ("m INPUTS 2 a text OUTPUTS 2 x y", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("m INPUTS 2 a a OUTPUTS 2 x y TIMEOUT", "No value provided for TIMEOUT"),
        ("m INPUTS 2 a a OUTPUTS 2 x y TIMEOUT x", "Invalid value for TIMEOUT"),
        ("m INPUTS 2 a a OUTPUTS 2 x y TIMEOUT 0", "Invalid value for TIMEOUT"),
        ("m INPUTS 2 a a OUTPUTS 2 x y FOO", "Invalid argument: FOO"),
        ("m INPUTS 2 a a OUTPUTS 2 x text", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ],
)
def test_a_wrong_modelexecute_says_what_is_wrong(client: redis.Redis, words: str, text: str) -> None:
    client.execute_command(*BOTH)
    tensor(client, "a", 1)
    client.set("text", "x")
    assert refused(client, "AI.MODELEXECUTE", *words.split()) == text
    assert not client.exists("x")


def test_the_arity_error_names_the_command_as_it_was_spelled(client: redis.Redis) -> None:
    assert refused(client, "ai.modelExecute", "m") == "wrong number of arguments for 'ai.modelExecute' command"


def test_runs_are_refused_in_transactions_and_lua(client: redis.Redis) -> None:
    client.execute_command(*BOTH)
    tensor(client, "a", 1)
    run = ("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 2, "x", "y")
    text = "Cannot run RedisAI command within a transaction or a LUA script"
    for words in [run, BOTH, ("AI.DAGEXECUTE", "LOAD", 1, "a", "|>", "AI.TENSORGET", "a"), ("AI._WORKER", "LIST")]:
        with client.pipeline(transaction=True) as pipe:
            pipe.execute_command(*words)
            assert text in str(pipe.execute(raise_on_error=False)[0])
    with pytest.raises(redis.ResponseError, match=text):
        client.eval(f"return redis.call({', '.join(repr(str(word)) for word in run)})", 0)


def test_a_blob_longer_than_a_chunk_comes_back_in_chunks(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "ec", "ho")
    assert client.execute_command("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE") == 511 * 1024 * 1024
    client.execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", 3)
    try:
        assert client.execute_command("AI.MODELGET", "m", "BLOB") == [b"ech", b"o"]
        assert client.execute_command("AI.MODELGET", "m")[-1] == [b"ech", b"o"]
    finally:
        client.execute_command("AI.CONFIG", "MODEL_CHUNK_SIZE", 511 * 1024 * 1024)
    assert client.execute_command("AI.MODELGET", "m", "BLOB") == b"echo"


def test_config_knows_what_the_original_knows(client: redis.Redis) -> None:
    assert client.execute_command("AI.CONFIG", "GET", "BACKENDSPATH") is None
    assert client.execute_command("AI.CONFIG", "GET", "NONSENSE") is None
    assert client.execute_command("AI.CONFIG", "LOADBACKEND", "TORCH", "redisai_torch.so") == b"OK"
    for words, text in [
        (("LOADBACKEND", "TFLITE", "x.so"), "error loading backend"),
        (("LOADBACKEND", "PORCH", "x.so"), "unsupported backend"),
        (("BACKENDSPATH",), "BACKENDSPATH: missing path argument"),
        (("MODEL_CHUNK_SIZE",), "MODEL_CHUNK_SIZE: missing chunk size"),
        (("MODEL_CHUNK_SIZE", "x"), "MODEL_CHUNK_SIZE: invalid chunk size"),
        (("NONSENSE", "x"), "unsupported subcommand"),
        ((), "wrong number of arguments for 'AI.CONFIG' command"),
    ]:
        assert refused(client, "AI.CONFIG", *words) == text


def test_entry_points_get_tensors_keys_and_args(client: redis.Redis) -> None:
    store = ("AI.SCRIPTSTORE", "s", "CPU", "TAG", "v2", "ENTRY_POINTS", 2, "sum", "count", "SOURCE", "words")
    assert client.execute_command(*store) == b"OK"
    assert client.type("s") == b"AI_SCRIPT"
    entry_points = [b"Entry Points", [b"sum", b"count"]]
    assert client.execute_command("AI.SCRIPTGET", "s", "META") == [b"device", b"CPU", b"tag", b"v2", *entry_points]
    assert client.execute_command("AI.SCRIPTGET", "s", "SOURCE") == b"words"
    assert client.execute_command("AI.SCRIPTGET", "s") == [
        b"device", b"CPU", b"tag", b"v2", b"source", b"words", *entry_points,
    ]  # fmt: skip
    tensor(client, "a", 1, 2)
    call = ("AI.SCRIPTEXECUTE", "s")
    client.execute_command(*call, "sum", "INPUTS", 2, "a", "a", "OUTPUTS", 1, "o", "TIMEOUT", 1000)
    assert values(client, "o") == [2, 4]
    client.execute_command(
        *call, "count", "KEYS", 1, "k", "INPUTS", 1, "a", "ARGS", 3, "x", "y", "z", "OUTPUTS", 1, "o"
    )
    assert values(client, "o") == [1, 1, 3, -1, 1]
    client.execute_command(*call, "count", "KEYS", 2, "k", "l", "OUTPUTS", 1, "o")
    assert values(client, "o") == [0, 2, 0, -1, 1]
    assert client.execute_command("AI._SCRIPTSCAN") == [[b"s", b"v2"]]
    assert client.execute_command("AI.SCRIPTDEL", "s") == b"OK"
    assert refused(client, *call, "sum", "INPUTS", 1, "a", "OUTPUTS", 1, "o") == "script key is empty"


def test_older_scripts_take_positional_inputs_and_a_trailing_list(client: redis.Redis) -> None:
    client.execute_command("AI.SCRIPTSET", "s", "CPU", "TAG", "t", "SOURCE", "words")
    tensor(client, "a", 1)
    client.execute_command("AI.SCRIPTRUN", "s", "count", "INPUTS", "a", "$", "a", "a", "OUTPUTS", "o")
    assert values(client, "o") == [3, 0, 0, 1, 2]
    client.execute_command("AI.SCRIPTRUN", "s", "count", "TIMEOUT", 100, "INPUTS", "a", "OUTPUTS", "o")
    assert values(client, "o") == [1, 0, 0, -1, 2]
    client.execute_command("AI.SCRIPTEXECUTE", "s", "count", "INPUTS", 1, "a", "OUTPUTS", 1, "o")
    assert values(client, "o") == [1, 0, 0, -1, 2]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("AI.SCRIPTSTORE s CPU", "wrong number of arguments for 'AI.SCRIPTSTORE' command"),
        ("AI.SCRIPTSTORE s TPU ENTRY_POINTS 1 f SOURCE x", "unsupported device"),
        (
            "AI.SCRIPTSTORE s CPU ENTRY_POINTS f f SOURCE x",
            "Non numeric entry points number provided to AI.SCRIPTSTORE command",
        ),
        ("AI.SCRIPTSTORE s GPU ENTRY_POINTS 1 f SOURCE x", "GPU requested but Torch couldn't find CUDA"),
        ("AI.SCRIPTSET s CPU SOURCE", "wrong number of arguments for 'AI.SCRIPTSET' command"),
        ("AI.SCRIPTSET s TAG SOURCE x", "Invalid DEVICE"),
        ("AI.SCRIPTGET none", "script key is empty"),
        ("AI.SCRIPTDEL none", "script key is empty"),
        ("AI.SCRIPTEXECUTE e sum", "wrong number of arguments for 'AI.SCRIPTEXECUTE' command"),
        ("AI.SCRIPTEXECUTE e other INPUTS 1 a OUTPUTS 1 o", "Function does not exist: other"),
        (
            "AI.SCRIPTEXECUTE e sum OUTPUTS 1 o INPUTS 1 a",
            "KEYS or INPUTS scope must be provided first for AI.SCRIPTEXECUTE command",
        ),
        (
            "AI.SCRIPTEXECUTE e sum INPUTS 1 a INPUTS 1 a",
            "Already Encountered INPUTS scope in AI.SCRIPTEXECUTE command",
        ),
        (
            "AI.SCRIPTEXECUTE e sum INPUTS 9 a",
            "number of inputs to AI.SCRIPTEXECUTE command does not match the number of given arguments",
        ),
        ("AI.SCRIPTEXECUTE e sum INPUTS 1 a b OUTPUTS 1 o", "Invalid AI.SCRIPTEXECUTE command. Unexpected argument: b"),
        ("AI.SCRIPTEXECUTE e sum INPUTS 1 a OUTPUTS 1 o TIMEOUT", "No value provided for TIMEOUT"),
    ],
)
def test_a_wrong_script_command_says_what_is_wrong(client: redis.Redis, words: str, text: str) -> None:
    client.execute_command("AI.SCRIPTSTORE", "e", "CPU", "ENTRY_POINTS", 1, "sum", "SOURCE", "words")
    tensor(client, "a", 1)
    assert refused(client, *words.split()) == text


def test_a_request_that_waits_longer_than_its_timeout_is_told_so(client: redis.Redis, database) -> None:
    client.execute_command("AI.MODELSTORE", "slow", "TORCH", "CPU", "BLOB", "slow 0.3")
    tensor(client, "a", 1)
    first = threading.Thread(
        target=lambda: database.client().execute_command("AI.MODELEXECUTE", "slow", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
    )
    first.start()
    while not client.exists("b") and database.workers()[2]["state"] != "busy":
        time.sleep(0.002)
    began = time.monotonic()
    assert (
        client.execute_command("AI.MODELEXECUTE", "slow", "INPUTS", 1, "a", "OUTPUTS", 1, "c", "TIMEOUT", 20)
        == b"TIMEDOUT"
    )
    assert time.monotonic() - began < 0.25
    first.join()
    assert client.exists("b")
    assert not client.exists("c")


def test_a_key_may_vanish_while_its_run_is_on_its_way(client: redis.Redis, database) -> None:
    for loss in (("DEL", "slow", "a"), ("FLUSHALL",), ("FLUSHALL", "ASYNC"), ("AI.TENSORSET", "a", "FLOAT", 1)):
        client.execute_command("AI.MODELSTORE", "slow", "TORCH", "CPU", "BLOB", "slow 0.05")
        tensor(client, "a", 7)
        caller = database.client()
        caller_reply: list[object] = []
        thread = threading.Thread(
            target=lambda caller=caller, into=caller_reply: into.append(
                caller.execute_command("AI.MODELEXECUTE", "slow", "INPUTS", 1, "a", "OUTPUTS", 1, "b")
            )
        )
        thread.start()
        while database.workers()[2]["state"] != "busy":
            time.sleep(0.001)
        client.execute_command(*loss)
        thread.join()
        assert caller_reply == [b"OK"]
        assert values(client, "b") == [7]


def test_the_output_of_a_large_run_comes_back_whole(client: redis.Redis) -> None:
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "both")
    blob = struct.pack("<262144f", *range(262144))
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 512, 512, "BLOB", blob)
    for _ in range(3):
        client.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 2, "a", "a", "OUTPUTS", 2, "x", "y")
        doubled = struct.pack("<262144f", *(2 * i for i in range(262144)))
        assert client.execute_command("AI.TENSORGET", "x", "BLOB") == doubled


def test_the_originals_readers_find_the_sections_of_info_by_their_number(client: redis.Redis) -> None:
    """Its published tests split INFO MODULES at the hashes and count."""
    connection = client.connection_pool.get_connection()
    connection.send_command("INFO", "MODULES")
    parts = connection.read_response().decode().split("#")
    client.connection_pool.release(connection)
    names = ["ai_versions", "ai_git", "ai_load_time_configs", "ai_backends_info", "ai_cpu"]
    assert [part.split()[0] for part in parts[2:7]] == names
    assert "ai_queue_CPU_bthread_n1_used_cpu_total" in parts[6]


def test_the_originals_arguments_of_loadmodule_are_understood(start: Callable[..., Any]) -> None:
    given = (
        "THREADS_PER_QUEUE",
        "4",
        "INTRA_OP_PARALLELISM",
        "2",
        "INTER_OP_PARALLELISM",
        "3",
        "MODEL_CHUNK_SIZE",
        "1000",
    )
    others = ("TF", "/x/redisai_tensorflow.so", "TORCH", "/x/t.so", "BACKENDSPATH", "/x", "BACKEND_MEMORY_LIMIT", "100")
    client = start(module=(*given, "MODEL_EXECUTION_TIMEOUT", "4000", *others)).client()
    facts = client.info("modules")
    assert (facts["ai_threads_per_queue"], facts["ai_intra_op_parallelism"], facts["ai_inter_op_parallelism"]) == (
        4,
        2,
        3,
    )
    assert facts["ai_model_execution_timeout"] == 4000
    assert client.execute_command("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE") == 1000
    assert client.execute_command("AI.CONFIG", "GET", "BACKENDSPATH") == b"/x"
