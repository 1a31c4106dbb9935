"""Units like the one before: recognised by their bytes, answered like any other."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from workers.inference.frames import FLOAT, Run, Tensor, read_items
from workers.inference.repeats import Template


def unit(number: int, values: Sequence[float], version: int = 9, function: bytes = b"scale\0\0\0") -> bytearray:
    header = struct.pack("<QIIQiIQQQ", number, 1, 0, 0, -1, 0, 0, 0, 0)
    item = struct.pack("<BBHHHQIiII", 4, 2, 2, 1, 0, version, 0, -1, 5, 0) + function + b"\1" + bytes(7)
    tensor = struct.pack("<BBBBIQQ", FLOAT, 1, 0, 0, 0, 0, 8) + struct.pack("<q", 2)
    return bytearray(
        header + item + tensor + struct.pack("<2f", *values[:2]) + tensor + struct.pack("<2f", *values[2:])
    )


def template(frame: bytearray) -> Template:
    (run,) = read_items(memoryview(frame), 1, [frame], None)
    assert isinstance(run, Run)
    arrays = [np.empty(2, np.float32) for _ in run.inputs]

    def call(natives: list[Any]) -> Sequence[Any]:
        return [natives[0] - natives[1]]

    return Template(frame, run, [(array, memoryview(array.data).cast("B")) for array in arrays], call)


def test_a_unit_with_other_values_and_another_id_is_a_repeat() -> None:
    known = template(unit(1, [1, 2, 3, 4]))
    again = unit(2, [9, 8, 1, 2])
    assert known.matches(again)
    (output,) = known.run(again)
    assert output.tolist() == [8, 6]


def test_another_version_function_or_length_is_none() -> None:
    known = template(unit(1, [1, 2, 3, 4]))
    assert not known.matches(unit(1, [1, 2, 3, 4], version=10))
    assert not known.matches(unit(1, [1, 2, 3, 4], function=b"spare\0\0\0"))
    assert not known.matches(unit(1, [1, 2, 3, 4]) + bytes(8))


def test_a_result_frame_follows_the_protocol_whatever_the_shape_was_before() -> None:
    known = template(unit(1, [1, 2, 3, 4]))
    for number, dims, blob in ((5, (1,), b"abcd"), (6, (2,), b"abcdefgh"), (7, (1,), b"wxyz")):
        frame = known.result(unit(number, [0, 0, 0, 0]), Tensor(FLOAT, dims, blob), 12)
        assert frame is not None
        assert struct.unpack_from("<QII", frame) == (number, 1, 0)
        assert struct.unpack_from("<BBHIQii", frame, 16) == (0, 0, 0, 0, 12, 1, 0)
        assert struct.unpack_from("<BBBBIQQ", frame, 40) == (FLOAT, 1, 0, 0, 0, 0, len(blob))
        assert struct.unpack_from("<q", frame, 64) == dims
        assert bytes(frame[72:]) == blob + bytes(-len(blob) % 8)


def test_an_output_that_is_too_large_takes_the_longer_way() -> None:
    known = template(unit(1, [1, 2, 3, 4]))
    assert known.result(unit(1, [0, 0, 0, 0]), Tensor(FLOAT, (4096,), bytes(16384)), 1) is None
