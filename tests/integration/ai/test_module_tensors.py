"""AI.TENSORSET and AI.TENSORGET as clients see them."""

from __future__ import annotations

import math
import struct

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORMATS = {
    "FLOAT": "f", "DOUBLE": "d", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "BOOL": "?",
}  # fmt: skip
RANGES = {
    "INT8": (-128, 127),
    "INT16": (-32768, 32767),
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "UINT8": (0, 255),
    "UINT16": (0, 65535),
    "BOOL": (0, 1),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_values_and_blob_are_two_forms_of_one_tensor(client: redis.Redis, kind: str) -> None:
    low, high = RANGES.get(kind, (-2.5, 1.25))
    blob = struct.pack(f"<2{FORMATS[kind]}", low, high)
    client.execute_command("AI.TENSORSET", "v", kind, 2, "VALUES", low, high)
    client.execute_command("AI.TENSORSET", "b", kind.lower(), 2, "BLOB", blob)
    assert client.execute_command("AI.TENSORGET", "v", "BLOB") == blob
    values = client.execute_command("AI.TENSORGET", "b", "VALUES")
    assert [v if isinstance(v, int) else float(v) for v in values] == [low, high]
    assert all(isinstance(v, bytes) for v in values) == (kind in ("FLOAT", "DOUBLE"))


@pytest.mark.parametrize("kind", RANGES)
def test_an_integer_outside_of_its_type_is_refused(client: redis.Redis, kind: str) -> None:
    for value in (RANGES[kind][0] - 1, RANGES[kind][1] + 1, "1.87", "x", ""):
        with pytest.raises(redis.ResponseError, match=r"^invalid value$"):
            client.execute_command("AI.TENSORSET", "t", kind, 1, "VALUES", value)


def test_strings_keep_their_elements(client: redis.Redis) -> None:
    client.execute_command("AI.TENSORSET", "s", "STRING", 1, 3, "VALUES", "C0", "", "ü\0")
    assert client.execute_command("AI.TENSORGET", "s", "META", "VALUES") == [
        b"dtype", b"STRING", b"shape", [1, 3], b"values", [b"C0", b"", "ü".encode()],
    ]  # fmt: skip
    assert client.execute_command("AI.TENSORGET", "s", "BLOB") == b"C0\0\0\xc3\xbc\0"
    client.execute_command("AI.TENSORSET", "b", "STRING", 2, "BLOB", b"a\0b\0")
    assert client.execute_command("AI.TENSORGET", "b", "VALUES") == [b"a", b"b"]


def test_a_tensor_without_data_is_zeros(client: redis.Redis) -> None:
    client.execute_command("AI.TENSORSET", "z", "INT16", 2, 2)
    assert client.execute_command("AI.TENSORGET", "z", "VALUES") == [0, 0, 0, 0]
    client.execute_command("AI.TENSORSET", "s", "STRING", 2)
    assert client.execute_command("AI.TENSORGET", "s", "VALUES") == [b"", b""]


def test_the_default_reply_is_meta_and_blob(client: redis.Redis) -> None:
    client.execute_command("AI.TENSORSET", "t", "FLOAT", 1, 2, "VALUES", 1, 2)
    meta = [b"dtype", b"FLOAT", b"shape", [1, 2]]
    blob = struct.pack("<2f", 1, 2)
    assert client.execute_command("AI.TENSORGET", "t") == [*meta, b"blob", blob]
    assert client.execute_command("AI.TENSORGET", "t", "META") == meta
    assert client.execute_command("AI.TENSORGET", "t", "BLOB") == blob
    assert client.execute_command("AI.TENSORGET", "t", "values", "meta") == [*meta, b"values", [b"1", b"2"]]


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_floats_come_back_as_the_shortest_text_that_is_the_same_number(
    client: redis.Redis, numbers: list[float]
) -> None:
    blob = struct.pack(f"<{len(numbers)}f", *numbers)
    client.execute_command("AI.TENSORSET", "f", "FLOAT", len(numbers), "BLOB", blob)
    texts = client.execute_command("AI.TENSORGET", "f", "VALUES")
    for text, number in zip(texts, numbers, strict=True):
        assert float(text) == number or (math.isnan(number) and text == b"nan")
        assert len(text) <= len(repr(number)) + 2


def test_numbers_are_written_as_the_original_writes_them(client: redis.Redis) -> None:
    client.execute_command("AI.TENSORSET", "f", "FLOAT", 3, "VALUES", 4, 0.29749104380607605, -0.5)
    assert client.execute_command("AI.TENSORGET", "f", "VALUES") == [b"4", b"0.29749104380607605", b"-0.5"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("t", "wrong number of arguments for 'AI.TENSORSET' command"),
        ("t FLOAT", "wrong number of arguments for 'AI.TENSORSET' command"),
        ("t INT128 1", "invalid data type"),
        ("t FLOAT -1", "invalid or negative value found in tensor shape"),
        ("t FLOAT 0", "invalid or negative value found in tensor shape"),
        ("t FLOAT 2 x", "invalid or negative value found in tensor shape"),
        ("t FLOAT 9223372036854775807 2", "invalid or negative value found in tensor shape"),
        ("t FLOAT " + "1 " * 65, "invalid or negative value found in tensor shape"),
        ("t FLOAT 2 VALUES 1", "wrong number of values was given in 'AI.TENSORSET' command"),
        ("t FLOAT 2 VALUES 1 2 3", "wrong number of values was given in 'AI.TENSORSET' command"),
        ("t FLOAT 2 VALUES 1 A", "invalid value"),
        ("t BOOL 1 VALUES 2", "invalid value"),
        ("t BOOL 1 BLOB \2", "BOOL tensor elements must be 0 or 1"),
        ("t FLOAT 2 BLOB", "a single binary string should come after the BLOB argument in 'AI.TENSORSET' command"),
        ("t FLOAT 2 BLOB x y", "a single binary string should come after the BLOB argument in 'AI.TENSORSET' command"),
        ("t FLOAT 2 BLOB 1234567", "data length does not match tensor shape and type"),
        ("t STRING 2 BLOB ab", "Number of string elements in data blob does not match tensor length"),
        ("t STRING 2 BLOB a\0", "Number of string elements in data blob does not match tensor length"),
        ("t STRING 1 VALUES a\0b", "invalid value"),
    ],
)
def test_a_wrong_tensorset_says_what_is_wrong_and_stores_nothing(client: redis.Redis, words: str, text: str) -> None:
    with pytest.raises(redis.ResponseError) as caught:
        client.execute_command("AI.TENSORSET", *words.split(" "))
    assert str(caught.value) == text
    assert not client.exists("t")


def test_a_wrong_tensorget_says_what_is_wrong(client: redis.Redis) -> None:
    client.set("text", "x")
    client.execute_command("AI.TENSORSET", "t", "FLOAT", 1)
    for words, text in [
        (["missing"], "tensor key is empty or in a different shard"),
        (["text"], "WRONGTYPE Operation against a key holding the wrong kind of value"),
        (["t", "BLOB", "VALUES"], "both BLOB and VALUES specified"),
        (["t", "PICTURE"], "unsupported data format"),
        (["t", "META", "BLOB", "META"], "wrong number of arguments for 'AI.TENSORGET' command"),
    ]:
        with pytest.raises(redis.ResponseError) as caught:
            client.execute_command("AI.TENSORGET", *words)
        assert str(caught.value) == text


def test_a_tensor_takes_no_key_of_another_type(client: redis.Redis) -> None:
    client.set("text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.execute_command("AI.TENSORSET", "text", "FLOAT", 1)
    assert client.get("text") == b"x"


def test_a_large_tensor_is_stored_once(client: redis.Redis) -> None:
    blob = bytes(range(256)) * 4096
    client.execute_command("AI.TENSORSET", "big", "UINT8", len(blob), "BLOB", blob)
    assert client.execute_command("AI.TENSORGET", "big", "BLOB") == blob
    assert len(blob) < int(client.memory_usage("big") or 0) < len(blob) + 512
    assert client.type("big") == b"AI_TENSOR"


def test_a_tensor_can_be_set_in_a_transaction_and_in_lua(client: redis.Redis) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("AI.TENSORSET", "t", "INT8", 1, "VALUES", 3)
        pipe.execute_command("AI.TENSORGET", "t", "VALUES")
        assert pipe.execute()[1] == [3]
    assert client.eval("return redis.call('AI.TENSORGET', KEYS[1], 'VALUES')", 1, "t") == [3]


def test_a_copy_outlives_the_original(client: redis.Redis) -> None:
    client.execute_command("AI.TENSORSET", "a", "INT8", 2, "VALUES", 1, 2)
    client.copy("a", "b")
    client.rename("a", "c")
    client.delete("c")
    assert client.execute_command("AI.TENSORGET", "b", "VALUES") == [1, 2]
