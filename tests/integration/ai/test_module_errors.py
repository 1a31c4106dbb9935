"""Every error text of the reference page, one row each: what is sent, and the whole text that comes back.

Clients and the published suites of the original match these texts, so they are compared whole, with or without `ERR` as there.
"""

from __future__ import annotations

from typing import Any

import pytest

EMPTY_TENSOR = "ERR tensor key is empty or in a different shard"
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
INPUTS = ("INPUTS", 1, "a")
OUTPUTS = ("OUTPUTS", 1, "z")
SOURCE = ("SOURCE", "words")
STEP = ("|>", "AI.TENSORGET", "a")
GRAPH = ("AI.DAGEXECUTE", "LOAD", 1, "a")


def arity(command: str) -> str:
    return f"ERR wrong number of arguments for '{command}' command"


KEYS = [
    (("AI.TENSORGET", "none"), EMPTY_TENSOR),
    (("AI.TENSORGET", "text"), WRONGTYPE),
    (("AI.TENSORGET", "text", "FOO"), WRONGTYPE),
    (("AI.TENSORSET", "text", "FOO", 1), WRONGTYPE),
    (("AI.TENSORSET", "text", "FLOAT", 1), WRONGTYPE),
    (("AI.MODELGET", "none"), "ERR model key is empty"),
    (("AI.MODELGET", "text"), WRONGTYPE),
    (("AI.MODELDEL", "none"), "ERR model key is empty"),
    (("AI.MODELDEL", "a"), WRONGTYPE),
    (("AI.MODELSTORE", "text", "TORCH", "CPU", "BLOB", "echo"), WRONGTYPE),
    (("AI.MODELEXECUTE", "none", *INPUTS, *OUTPUTS), "ERR model key is empty"),
    (("AI.MODELEXECUTE", "s", *INPUTS, *OUTPUTS), WRONGTYPE),
    (("AI.MODELEXECUTE", "m", "INPUTS", 1, "none", *OUTPUTS), EMPTY_TENSOR),
    (("AI.MODELEXECUTE", "m", "INPUTS", 1, "text", *OUTPUTS), WRONGTYPE),
    (("AI.MODELEXECUTE", "m", *INPUTS, "OUTPUTS", 1, "text"), WRONGTYPE),
    (("AI.MODELRUN", "none", "INPUTS", "a", "OUTPUTS", "z"), "ERR model key is empty"),
    (("AI.SCRIPTGET", "none"), "ERR script key is empty"),
    (("AI.SCRIPTGET", "m"), WRONGTYPE),
    (("AI.SCRIPTDEL", "none"), "ERR script key is empty"),
    (("AI.SCRIPTEXECUTE", "none", "sum", *INPUTS, *OUTPUTS), "ERR script key is empty"),
    (("AI.SCRIPTEXECUTE", "m", "sum", *INPUTS, *OUTPUTS), WRONGTYPE),
    (("AI.SCRIPTRUN", "none", "sum", "INPUTS", "a", "OUTPUTS", "z"), "ERR script key is empty"),
    (("AI.INFO", "none"), "ERR cannot find run info for key"),
    (("AI.INFO", "a"), "ERR cannot find run info for key"),
    (("AI.INFO", "none", "RESETSTAT"), "ERR cannot find run info for key"),
]

TENSORS = [
    (("AI.TENSORSET", "t"), arity("AI.TENSORSET")),
    (("AI.TENSORSET", "t", "FLOAT"), arity("AI.TENSORSET")),
    (("ai.tensorset", "t"), arity("AI.TENSORSET")),
    (("AI.TENSORGET",), arity("AI.TENSORGET")),
    (("AI.TENSORGET", "a", "META", "BLOB", "VALUES"), arity("AI.TENSORGET")),
    (("AI.TENSORSET", "t", "INT128", 1, "VALUES", 1), "ERR invalid data type"),
    (("AI.TENSORSET", "t", "FLOAT", "x", "VALUES", 1), "ERR invalid or negative value found in tensor shape"),
    (("AI.TENSORSET", "t", "FLOAT", -1, "VALUES", 1), "ERR invalid or negative value found in tensor shape"),
    (("AI.TENSORSET", "t", "FLOAT", 1, "FOO", 1), "ERR invalid or negative value found in tensor shape"),
    (("AI.TENSORSET", "t", "FLOAT", 1, "VALUES", "x"), "ERR invalid value"),
    (("AI.TENSORSET", "t", "INT32", 1, "VALUES", "1.87"), "ERR invalid value"),
    (("AI.TENSORSET", "t", "INT8", 1, "VALUES", 128), "ERR invalid value"),
    (("AI.TENSORSET", "t", "UINT8", 1, "VALUES", -1), "ERR invalid value"),
    (("AI.TENSORSET", "t", "UINT16", 1, "VALUES", 65536), "ERR invalid value"),
    (("AI.TENSORSET", "t", "BOOL", 1, "VALUES", 2), "ERR invalid value"),
    (("AI.TENSORSET", "t", "STRING", 1, "VALUES", b"a\0b"), "ERR invalid value"),
    (("AI.TENSORSET", "t", "BOOL", 1, "BLOB", b"\2"), "ERR BOOL tensor elements must be 0 or 1"),
    (("AI.TENSORSET", "t", "FLOAT", 2, "BLOB", b"123"), "ERR data length does not match tensor shape and type"),
    *(
        (
            ("AI.TENSORSET", "t", "STRING", 2, "BLOB", blob),
            "ERR Number of string elements in data blob does not match tensor length",
        )
        for blob in (b"a\0", b"a\0b", b"a\0b\0c\0", b"")
    ),
    (
        ("AI.TENSORSET", "t", "FLOAT", 2, "VALUES", 1, 2, 3),
        "ERR wrong number of values was given in 'AI.TENSORSET' command",
    ),
    (("AI.TENSORSET", "t", "FLOAT", 2, "VALUES"), "ERR wrong number of values was given in 'AI.TENSORSET' command"),
    (
        ("AI.TENSORSET", "t", "FLOAT", 1, "BLOB"),
        "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command",
    ),
    (
        ("AI.TENSORSET", "t", "FLOAT", 1, "BLOB", b"1234", b"5"),
        "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command",
    ),
    (("AI.TENSORGET", "a", "FOO"), "ERR unsupported data format"),
    (("AI.TENSORGET", "a", "BLOB", "VALUES"), "ERR both BLOB and VALUES specified"),
]

STORING = [
    (("AI.MODELSTORE", "t", "TORCH", "CPU", "BLOB"), arity("AI.MODELSTORE")),
    (("AI.MODELSET", "t", "TORCH"), arity("AI.MODELSET")),
    (("AI.MODELGET",), arity("AI.MODELGET")),
    (("AI.MODELDEL",), arity("AI.MODELDEL")),
    (("AI._MODELSCAN", "x"), arity("AI._MODELSCAN")),
    (("AI.MODELSTORE", "t", "PORCH", "CPU", "BLOB", "echo"), "ERR unsupported backend"),
    (("AI.MODELSTORE", "t", "TORCH", "BLOB", "echo", "x"), "ERR Invalid DEVICE"),
    (("AI.MODELSTORE", "t", "TORCH", "a long device", "BLOB", "echo"), "ERR Invalid DEVICE"),
    (("AI.MODELSTORE", "t", "TORCH", "ABC", "BLOB", "echo"), "ERR unsupported device"),
    (("AI.MODELSTORE", "t", "TFLITE", "CPU", "BLOB", "echo"), "ERR Could not load backend"),
    (("AI.MODELSTORE", "t", "TORCH", "GPU", "BLOB", "echo"), "GPU requested but Torch couldn't find CUDA"),
    (("AI.MODELSTORE", "t", "TORCH", "CPU", "BLOB", "broken"), "this model is broken"),
    (
        ("AI.MODELSTORE", "t", "TFLITE", "CPU", "BATCHSIZE", 2, "MINBATCHSIZE", 2, "BLOB", "echo"),
        "ERR Auto-batching not supported by the TFLITE backend",
    ),
    (
        ("AI.MODELSTORE", "t", "TORCH", "CPU", "MINBATCHSIZE", 2, "BLOB", "echo"),
        "ERR MINBATCHSIZE specified without BATCHSIZE",
    ),
    (
        ("AI.MODELSTORE", "t", "TORCH", "CPU", "BATCHSIZE", 2, "MINBATCHTIMEOUT", 2, "BLOB", "echo"),
        "ERR MINBATCHTIMEOUT specified without MINBATCHSIZE",
    ),
    (("AI.MODELSTORE", "t", "TORCH", "CPU", "BATCHSIZE", "x", "BLOB", "echo"), "ERR Invalid argument for BATCHSIZE"),
    (("AI.MODELSTORE", "t", "TORCH", "CPU", "BATCHSIZE", -1, "BLOB", "echo"), "ERR Invalid argument for BATCHSIZE"),
    (
        ("AI.MODELSTORE", "t", "TORCH", "CPU", "BATCHSIZE", 2, "MINBATCHSIZE", "x", "BLOB", "echo"),
        "ERR Invalid argument for MINBATCHSIZE",
    ),
    (
        (
            "AI.MODELSTORE",
            "t",
            "TORCH",
            "CPU",
            "BATCHSIZE",
            2,
            "MINBATCHSIZE",
            1,
            "MINBATCHTIMEOUT",
            "x",
            "BLOB",
            "echo",
        ),
        "ERR Invalid argument for MINBATCHTIMEOUT",
    ),
    (
        ("AI.MODELSTORE", "t", "TORCH", "CPU", "INPUTS", 1, "a", "OUTPUTS", 1, "b", "BLOB", "echo"),
        "ERR INPUTS argument should not be specified for this backend",
    ),
    (("AI.MODELSTORE", "t", "TF", "CPU", "BLOB", "add"), "ERR INPUTS not specified for TF"),
    (("AI.MODELSTORE", "t", "TF", "CPU", "INPUTS", 1, "a", "BLOB", "add"), "ERR OUTPUTS not specified for TF"),
    (("AI.MODELSTORE", "t", "TORCH", "CPU", "TAG", "v"), "ERR Insufficient arguments, missing model BLOB"),
    (("AI.MODELSTORE", "t", "TORCH", "CPU", "FOO", "v"), "ERR Insufficient arguments, missing model BLOB"),
    (("AI.CONFIG",), arity("AI.CONFIG")),
    (("AI.CONFIG", "FOO"), "ERR unsupported subcommand"),
    (("AI.CONFIG", "BACKENDSPATH"), "ERR BACKENDSPATH: missing path argument"),
    (("AI.CONFIG", "MODEL_CHUNK_SIZE"), "ERR MODEL_CHUNK_SIZE: missing chunk size"),
    (("AI.CONFIG", "MODEL_CHUNK_SIZE", 0), "ERR MODEL_CHUNK_SIZE: invalid chunk size"),
    (("AI.CONFIG", "LOADBACKEND", "TORCH"), arity("AI.CONFIG")),
    (("AI.CONFIG", "LOADBACKEND", "FOO", "x.so"), "ERR unsupported backend"),
    (("AI.CONFIG", "LOADBACKEND", "TORCH", "."), "ERR error loading backend"),
    (("AI.CONFIG", "LOADBACKEND", "TFLITE", "x.so"), "ERR error loading backend"),
]

EXECUTING = [
    (("AI.MODELEXECUTE", "m"), arity("AI.MODELEXECUTE")),
    (("ai.modelexecute", "m"), arity("ai.modelexecute")),
    (("AI.MODELRUN", "m"), arity("AI.MODELRUN")),
    (("AI.MODELEXECUTE", "m", "FOO", 1, "a", *OUTPUTS), "ERR INPUTS not specified"),
    (("AI.MODELEXECUTE", "m", *INPUTS, "FOO", 1, "z"), "ERR OUTPUTS not specified"),
    (("AI.MODELRUN", "m", "OUTPUTS", "z"), "ERR INPUTS not specified"),
    (("AI.MODELRUN", "m", "INPUTS", "a"), "ERR OUTPUTS not specified"),
    (("AI.MODELEXECUTE", "m", "INPUTS", "x", "a", *OUTPUTS), "ERR Invalid argument for input_count"),
    (("AI.MODELEXECUTE", "m", *INPUTS, "OUTPUTS", "x", "z"), "ERR Invalid argument for output_count"),
    (
        ("AI.MODELEXECUTE", "m", "INPUTS", 9, "a", *OUTPUTS),
        "ERR number of input keys to AI.MODELEXECUTE command does not match the number of given arguments",
    ),
    (
        ("AI.MODELEXECUTE", "m", *INPUTS, "OUTPUTS", 9, "z"),
        "ERR number of output keys to AI.MODELEXECUTE command does not match the number of given arguments",
    ),
    (("AI.MODELEXECUTE", "m", *INPUTS, *OUTPUTS, "TIMEOUT"), "ERR No value provided for TIMEOUT"),
    (("AI.MODELEXECUTE", "m", *INPUTS, *OUTPUTS, "TIMEOUT", "x"), "ERR Invalid value for TIMEOUT"),
    (("AI.MODELEXECUTE", "m", *INPUTS, *OUTPUTS, "TIMEOUT", -1), "ERR Invalid value for TIMEOUT"),
    (("AI.MODELEXECUTE", "m", *INPUTS, *OUTPUTS, "FOO"), "Invalid argument: FOO"),
    (
        ("AI.MODELEXECUTE", "tf", *INPUTS, *OUTPUTS),
        "Number of keys given as INPUTS here does not match model definition",
    ),
    (
        ("AI.MODELEXECUTE", "tf", "INPUTS", 2, "a", "a", "OUTPUTS", 2, "y", "z"),
        "Number of keys given as OUTPUTS here does not match model definition",
    ),
    (("AI.MODELEXECUTE", "failing", *INPUTS, *OUTPUTS), "two words"),
    (
        ("EVAL", "return redis.call('AI.MODELEXECUTE','m','INPUTS',1,'a','OUTPUTS',1,'z')", 0),
        "ERR Cannot run RedisAI command within a transaction or a LUA script",
    ),
]

SCRIPTS = [
    (("AI.SCRIPTSTORE", "t", "CPU", *SOURCE), arity("AI.SCRIPTSTORE")),
    (("AI.SCRIPTSET", "t", "CPU", "SOURCE"), arity("AI.SCRIPTSET")),
    (("AI.SCRIPTEXECUTE", "s", "sum"), arity("AI.SCRIPTEXECUTE")),
    (("AI.SCRIPTRUN", "s", "sum"), arity("AI.SCRIPTRUN")),
    (("AI.SCRIPTSTORE", "t", "ABC", "ENTRY_POINTS", 1, "sum", *SOURCE), "ERR unsupported device"),
    (
        ("AI.SCRIPTSTORE", "t", "CPU", "ENTRY_POINTS", 1, "sum", "FOO", "x"),
        "ERR Insufficient arguments, missing script SOURCE",
    ),
    (("AI.SCRIPTSET", "t", "ABC", *SOURCE), "ERR unsupported device"),
    (
        ("AI.SCRIPTSTORE", "t", "CPU", "ENTRY_POINTS", "x", "sum", *SOURCE),
        "ERR Non numeric entry points number provided to AI.SCRIPTSTORE command",
    ),
    (
        ("AI.SCRIPTEXECUTE", "s", "sum", *OUTPUTS),
        "ERR KEYS or INPUTS scope must be provided first for AI.SCRIPTEXECUTE command",
    ),
    *(
        (
            ("AI.SCRIPTEXECUTE", "s", "sum", "KEYS", 1, "a", *INPUTS, "ARGS", 1, "x", *OUTPUTS, scope, 1, "a"),
            f"ERR Already Encountered {scope} scope in AI.SCRIPTEXECUTE command",
        )
        for scope in ("KEYS", "INPUTS", "ARGS", "OUTPUTS")
    ),
    *(
        (
            ("AI.SCRIPTEXECUTE", "s", "sum", *first, scope, "x", "a"),
            f"ERR Invalid argument for number of {scope.lower()} to AI.SCRIPTEXECUTE command",
        )
        for scope, first in (("KEYS", ()), ("INPUTS", ()), ("ARGS", INPUTS), ("OUTPUTS", INPUTS))
    ),
    *(
        (
            ("AI.SCRIPTEXECUTE", "s", "sum", *first, scope, 9, "a"),
            f"ERR number of {scope.lower()} to AI.SCRIPTEXECUTE command does not match the number of given arguments",
        )
        for scope, first in (("KEYS", ()), ("INPUTS", ()), ("ARGS", INPUTS), ("OUTPUTS", INPUTS))
    ),
    (
        ("AI.SCRIPTEXECUTE", "s", "sum", *INPUTS, *OUTPUTS, "X"),
        "ERR Invalid AI.SCRIPTEXECUTE command. Unexpected argument: X",
    ),
    (("AI.SCRIPTEXECUTE", "s", "g", *INPUTS, *OUTPUTS), "Function does not exist: g"),
    (("AI.SCRIPTEXECUTE", "s", "sum", "INPUTS", 1, "none", *OUTPUTS), EMPTY_TENSOR),
]

GRAPHS = [
    (("AI.DAGEXECUTE",), "ERR missing arguments for 'AI.DAGEXECUTE' command"),
    (("AI.DAGEXECUTE_RO",), "ERR missing arguments for 'AI.DAGEXECUTE_RO' command"),
    (("AI.DAGRUN",), "ERR missing arguments for 'AI.DAGRUN' command"),
    (GRAPH, "ERR DAG is empty"),
    ((*GRAPH, "|>"), "ERR DAG is empty"),
    (
        ("AI.DAGEXECUTE", "|>", "AI.TENSORSET", "t", "FLOAT", 1),
        "ERR AI.DAGEXECUTE and AI.DAGEXECUTE_RO commands must contain at least one out of ROUTING, LOAD, PERSIST parameters",
    ),
    (("AI.DAGEXECUTE", "LOAD", "x", "a", *STEP), "ERR Invalid or negative value found in number of keys to LOAD"),
    (
        ("AI.DAGEXECUTE", "LOAD", 9, "a", *STEP),
        "ERR Number of keys to LOAD in AI.DAGEXECUTE command does not match the number of given arguments",
    ),
    (("AI.DAGEXECUTE", "LOAD", 1, "none", *STEP), EMPTY_TENSOR),
    (("AI.DAGEXECUTE", "LOAD", 1, "text", *STEP), WRONGTYPE),
    ((*GRAPH, "|>", "AI.TENSORGET", "none"), "ERR INPUT key cannot be found in DAG"),
    ((*GRAPH, "|>", "AI.MODELEXECUTE", "m", "INPUTS", 1, "none", *OUTPUTS), "ERR INPUT key cannot be found in DAG"),
    (("AI.DAGEXECUTE", "PERSIST", 1, "none", "LOAD", 1, "a", *STEP), "ERR PERSIST key cannot be found in DAG"),
    (("AI.DAGEXECUTE", "LOAD", 1, "a", "PERSIST", 2, "a", "a", *STEP), "ERR PERSIST keys must be unique"),
    (
        ("AI.DAGEXECUTE_RO", "LOAD", 1, "a", "PERSIST", 1, "a", *STEP),
        "ERR PERSIST cannot be specified in a read-only DAG",
    ),
    ((*GRAPH, "|>", "AI.FOO", "a"), "Unsupported command within DAG"),
    (
        (*GRAPH, "|>", "AI.MODELRUN", "m", "INPUTS", "a", "OUTPUTS", "z"),
        "Deprecated AI.MODELRUN cannot be used in AI.DAGEXECUTE command",
    ),
    (
        (*GRAPH, "|>", "AI.SCRIPTRUN", "s", "sum", "INPUTS", "a", "OUTPUTS", "z"),
        "Deprecated AI.SCRIPTRUN cannot be used in AI.DAGEXECUTE command",
    ),
    ((*GRAPH, "|>", "AI.MODELEXECUTE", "none", *INPUTS, *OUTPUTS), "ERR model key is empty"),
    ((*GRAPH, "TIMEOUT", "x", *STEP), "ERR Invalid value for TIMEOUT"),
    ((*GRAPH, "FOO", *STEP), "ERR Invalid DAG command. Unexpected argument: FOO"),
]


@pytest.fixture(scope="module")
def wire(database: Any) -> Any:
    """A connection whose error replies are texts as they came, on a server with one of each kind of key."""
    client = database.client()
    client.flushall()
    client.set("text", "v")
    client.execute_command("AI.TENSORSET", "a", "FLOAT", 1)
    client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", "echo")
    client.execute_command("AI.MODELSTORE", "failing", "TORCH", "CPU", "BLOB", "fail two\nwords")
    client.execute_command("AI.MODELSTORE", "tf", "TF", "CPU", "INPUTS", 2, "a", "b", "OUTPUTS", 1, "c", "BLOB", "add")
    client.execute_command("AI.SCRIPTSTORE", "s", "CPU", "ENTRY_POINTS", 1, "sum", "SOURCE", "words")
    connection = database.client().connection_pool.get_connection()
    yield connection
    connection.disconnect()


def reply(connection: Any, words: tuple[Any, ...]) -> str:
    """The error reply to a command, as the bytes on the wire."""
    connection.send_command(*words)
    with connection._sock.makefile("rb") as stream:
        line: bytes = stream.readline()
    assert line.startswith(b"-"), line
    return line[1:-2].decode()


@pytest.mark.parametrize(
    ("words", "text"),
    [*KEYS, *TENSORS, *STORING, *EXECUTING, *SCRIPTS, *GRAPHS],
    ids=lambda value: " ".join(map(str, value))[:80] if isinstance(value, tuple) else "",
)
def test_what_is_wrong_has_the_originals_text(wire: Any, words: tuple[Any, ...], text: str) -> None:
    told = reply(wire, words)
    if words[0] == "EVAL":  # servers add where in the script it was
        told = told.partition(" script: ")[0]
    assert told == text
