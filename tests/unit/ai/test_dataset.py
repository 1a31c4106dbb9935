from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from taskensemble.ai import Dataset
from taskensemble.ai.error import RedisKeyError, RedisReplyError, RedisRuntimeError

SCALARS = ["float64", "float32", "int32", "int64", "uint32", "uint64"]

# What smartredis 0.6.1 writes for these fields, read with MONITOR.
RECORDED = {
    b"pf": b"\x01\x00\x00\x00\x00\x00\x00\x0c@",
    b"pi": b"\x04\x03\x00\x00\x00\x00\x00\x00\x00",
    b"ms": b"\x07\x05\x00\x00\x00\x00\x00\x00\x00hello\x06\x00\x00\x00\x00\x00\x00\x00w\xc3\xb6rld",
    b"mi4": b"\x03\x05\x00\x00\x00\x07\x00\x00\x00",
    b"mu4": b"\x05\x05\x00\x00\x00\x07\x00\x00\x00",
    b"mu8": b"\x06\x05\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00",
    b"mf4": b"\x02\x00\x00\xa0@\x00\x00\xe0@",
    b".tensor_names": b"\x07\x01\x00\x00\x00\x00\x00\x00\x00a",
}


def recorded() -> Dataset:
    dataset = Dataset("d")
    dataset.add_meta_scalar("pf", 3.5)
    dataset.add_meta_scalar("pi", 3)
    dataset.add_meta_string("ms", "hello")
    dataset.add_meta_string("ms", "wörld")
    for name, kind in (("mi4", np.int32), ("mu4", np.uint32), ("mu8", np.uint64), ("mf4", np.float32)):
        dataset.add_meta_scalar(name, kind(5))
        dataset.add_meta_scalar(name, kind(7))
    dataset.add_tensor("a", np.zeros(3))
    return dataset


def test_metadata_is_written_as_smartredis_writes_it() -> None:
    assert recorded().encoded_metadata() == RECORDED


def test_metadata_of_smartredis_is_read() -> None:
    dataset = Dataset.from_stored("d", RECORDED | {b".COMPLETE": b"1"}, {"a": np.zeros(3)})
    assert sorted(dataset.get_metadata_field_names()) == ["mf4", "mi4", "ms", "mu4", "mu8", "pf", "pi"]
    assert dataset.get_meta_strings("ms") == ["hello", "wörld"]
    assert dataset.get_meta_scalars("mu8").tolist() == [5, 7]
    assert dataset.get_meta_scalars("pf").tolist() == [3.5]
    assert dataset.get_metadata_field_type("mf4") is np.float32
    assert dataset.get_metadata_field_type("ms") is str


@pytest.mark.parametrize("dtype", SCALARS)
def test_scalars_of_every_type_come_back_in_order(dtype: str) -> None:
    kind = np.dtype(dtype).type
    dataset = Dataset("d")
    dataset.add_meta_scalar("x", kind(1))
    dataset.add_meta_scalar("x", kind(2))
    again = Dataset.from_stored("d", dataset.encoded_metadata(), {})
    assert again.get_meta_scalars("x").dtype == dtype
    assert again.get_meta_scalars("x").tolist() == [1, 2]


def test_a_tensor_is_the_datasets_own_copy() -> None:
    array = np.zeros((2, 3), np.float32)
    dataset = Dataset("d")
    dataset.add_tensor("t", array)
    array[:] = 1
    dataset.get_tensor("t")[:] = 2
    assert dataset.get_tensor("t").sum() == 0
    assert dataset.get_tensor_dims("t") == [2, 3]
    assert dataset.get_tensor_type("t") is np.float32
    assert dataset.get_tensor_names() == ["t"]


def _with_field() -> Dataset:
    dataset = Dataset("d")
    dataset.add_meta_scalar("number", 1)
    dataset.add_meta_string("text", "x")
    dataset.add_tensor("t", np.zeros(1))
    return dataset


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda d: d.add_tensor("t", np.zeros(1)), RedisRuntimeError),
        (lambda d: d.add_tensor("u", [1]), TypeError),
        (lambda d: d.add_tensor("u", np.zeros(1, np.uint64)), TypeError),
        (lambda d: d.add_meta_scalar("number", 1.5), RedisRuntimeError),
        (lambda d: d.add_meta_scalar("text", 1), RedisRuntimeError),
        (lambda d: d.add_meta_scalar("list", [1, 2]), TypeError),
        (lambda d: d.add_meta_scalar("small", np.int8(1)), TypeError),
        (lambda d: d.add_meta_string("number", "x"), RedisRuntimeError),
        (lambda d: d.add_meta_string("text", 1), TypeError),
        (lambda d: d.get_tensor("none"), RedisKeyError),
        (lambda d: d.get_meta_scalars("none"), RedisRuntimeError),
        (lambda d: d.get_meta_scalars("text"), RedisRuntimeError),
        (lambda d: d.get_meta_strings("none"), RedisRuntimeError),
        (lambda d: d.get_meta_strings("number"), RedisRuntimeError),
        (lambda d: d.get_metadata_field_type("none"), RedisKeyError),
        (lambda d: d.get_tensor_dims("none"), RedisReplyError),
        (lambda d: d.get_tensor_type("none"), RedisReplyError),
    ],
)
def test_misuse_raises_smartredis_errors(call: Callable[[Dataset], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        call(_with_field())


def test_the_name_must_be_text() -> None:
    with pytest.raises(TypeError, match="name"):
        Dataset(1)  # type: ignore[arg-type]


def test_a_person_can_read_it_in_smartredis_words() -> None:
    dataset = _with_field()
    dataset.add_tensor("u", np.zeros((2, 3), np.uint16))
    dataset.add_meta_scalar("f", np.float32(1))
    assert str(dataset) == (
        "DataSet (d):\n"
        "Tensors:\n"
        "  t:\n    type: double\n    dimensions: [1]\n    elements: 1\n"
        "  u:\n    type: 16 bit unsigned integer\n    dimensions: [2, 3]\n    elements: 6\n"
        "Metadata:\n"
        "  number:\n    type: 64 bit signed integer\n"
        "  f:\n    type: float\n"
        "  text:\n    type: string\n"
    )
    assert str(Dataset("e")) == "DataSet (e):\nTensors:\n  none\nMetadata:\n  none\n"
