"""The bytes between module and workers, as docs/inference-protocol.md says."""

from __future__ import annotations

import struct

import pytest

from workers.inference.frames import (
    DOUBLE,
    FLOAT,
    SHARED_FROM,
    FrameError,
    LoadModel,
    LoadScript,
    Quit,
    Reference,
    ResultFrame,
    Run,
    Tensor,
    Unit,
    Unload,
    read_items,
    read_unit,
)

NO_SHARED_MEMORY = Unit(7, 0, -1, 0, 0, 0, 1)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def string(text: str) -> bytes:
    return struct.pack("<II", len(text.encode()), 0) + padded(text.encode())


def header(items: int, segment: int = 0, size: int = 0, room: int = 0, room_size: int = 0) -> bytes:
    return struct.pack("<QIIQiIQQQ", 7, items, 0, segment, 3, 0, size, room, room_size)


def item(
    kind: int,
    *,
    style: int = 0,
    a: int = 0,
    b: int = 0,
    c: int = 0,
    version: int = 9,
    d: int = 0,
    e: int = 0,
    f: int = 0,
    text: str = "",
) -> bytes:
    encoded = text.encode()
    return struct.pack("<BBHHHQIiII", kind, style, a, b, c, version, d, e, len(encoded), f) + padded(encoded)


def tensor(code: int, dims: tuple[int, ...], where: int, length: int, index: int = 0, offset: int = 0) -> bytes:
    return struct.pack("<BBBBIQQ", code, len(dims), where, 0, index, offset, length) + struct.pack(
        f"<{len(dims)}q", *dims
    )


def test_a_unit_is_read_with_tensors_from_all_four_places() -> None:
    values = struct.pack("<3f", 1, 2, 3)
    frame = bytearray(
        header(1, segment=4, size=128)
        + item(4, style=2, a=4, b=2, c=1, d=1, e=3, f=5, text="scale")
        + padded(b"\1\0")
        + tensor(FLOAT, (3,), 0, 12)
        + padded(values)
        + tensor(DOUBLE, (2, 1), 1, 16, offset=64)
        + tensor(FLOAT, (1,), 2, 4, index=1)
        + tensor(0, (), 3, 0, index=0, offset=1)
        + string("key")
        + string("ärg")
    )
    segment = memoryview(bytearray(range(128)))
    elements = [frame, bytearray(b"abcd")]
    unit = read_unit(frame)
    assert (unit.unit_id, unit.segment_id, unit.segment_fd, unit.segment_size, unit.items) == (7, 4, 3, 128, 1)
    (run,) = read_items(memoryview(frame), unit.items, elements, segment)
    assert isinstance(run, Run)
    assert (run.version, run.style, run.function, run.wanted, run.list_at) == (9, 2, "scale", b"\1\0", 3)
    assert (run.keys, run.args, run.database) == (["key"], ["ärg"], 5)
    inline, shared, element, reference = run.inputs
    assert isinstance(inline, Tensor)
    assert isinstance(shared, Tensor)
    assert isinstance(element, Tensor)
    assert (inline.dims, bytes(inline.blob)) == ((3,), values)
    assert (shared.dims, bytes(shared.blob)) == ((2, 1), bytes(range(64, 80)))
    assert bytes(element.blob) == b"abcd"
    assert reference == Reference(0, 1)


def test_loads_unloads_and_quit_are_read() -> None:
    frame = bytearray(
        header(4)
        + item(1, a=1, b=1, d=1, e=8, f=2)
        + string("in")
        + string("out")
        + item(2, a=1, d=2)
        + string("main")
        + item(3, version=11)
        + item(5)
    )
    elements = [frame, bytearray(b"blob"), bytearray(b"source")]
    model, script, unload, leave = read_items(memoryview(frame), 4, elements, None)
    assert model == LoadModel(9, elements[1], ["in"], ["out"], 8, 2)
    assert script == LoadScript(9, elements[2], ["main"])
    assert unload == Unload(11)
    assert leave == Quit()


@pytest.mark.parametrize("length", [0, 40, 56, 60, 90, 110])
def test_a_frame_that_ends_too_early_is_refused(length: int) -> None:
    frame = bytearray(
        header(1) + item(4, a=1, b=1) + padded(b"\1") + tensor(FLOAT, (3, 1, 1), 0, 12) + padded(bytes(12))
    )
    with pytest.raises((FrameError, struct.error)):
        read_items(memoryview(frame[:length]), read_unit(frame).items, [frame], None)


def test_a_tensor_outside_of_the_segment_is_refused() -> None:
    frame = bytearray(header(1) + item(4, a=1, b=1) + padded(b"\1") + tensor(FLOAT, (3,), 1, 12, offset=64))
    with pytest.raises(FrameError, match="segment"):
        read_items(memoryview(frame), 1, [frame], memoryview(bytearray(64)))


def test_small_outputs_travel_inside_the_result_frame() -> None:
    results = ResultFrame(NO_SHARED_MEMORY, None)
    results.run(12, [Tensor(FLOAT, (1,), b"abcd")])
    expected = (
        struct.pack("<QII", 7, 1, 0)
        + struct.pack("<BBHIQii", 0, 0, 0, 0, 12, 1, 0)
        + tensor(FLOAT, (1,), 0, 4)
        + padded(b"abcd")
    )
    assert bytes(results.finish()) == expected
    assert results.elements == []


def test_large_outputs_go_into_the_segment_while_there_is_room_and_beside_the_frame_afterwards() -> None:
    segment = memoryview(bytearray(3 * SHARED_FROM))
    unit = Unit(7, 4, 3, len(segment), SHARED_FROM + 1, 2 * SHARED_FROM - 1, 1)
    large = bytes(SHARED_FROM)
    results = ResultFrame(unit, segment)
    results.run(1, [Tensor(FLOAT, (SHARED_FROM // 4,), b"\1" * SHARED_FROM), Tensor(FLOAT, (SHARED_FROM // 4,), large)])
    frame = results.finish()
    first = struct.unpack_from("<BBBBIQQ", frame, 40)
    second = struct.unpack_from("<BBBBIQQ", frame, 72)
    assert first[2] == 1
    assert first[5] % 64 == 0
    assert first[5] >= SHARED_FROM + 1
    assert bytes(segment[first[5] : first[5] + 4]) == b"\1\1\1\1"
    assert (second[2], second[4]) == (2, 1)
    assert results.elements == [large]


def test_errors_are_one_line_and_loads_tell_their_names() -> None:
    results = ResultFrame(NO_SHARED_MEMORY, None)
    results.failed(3, "first\nsecond")
    results.skipped()
    results.loaded(2, ["x"], None)
    frame = bytes(results.finish())
    assert struct.unpack_from("<QII", frame) == (7, 3, 0)
    assert struct.unpack_from("<BBHIQii", frame, 16) == (1, 0, 0, 12, 3, 0, 0)
    assert frame[40:52] == b"first second"
    assert struct.unpack_from("<BBHIQii", frame, 56)[0] == 2
    assert struct.unpack_from("<BBHIQii", frame, 80) == (0, 0, 0, 0, 2, 1, -1)
    assert frame[104:] == string("x")
