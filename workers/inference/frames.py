"""The bytes of units and results: `docs/inference-protocol.md`, in code.

A unit frame comes from the module and is parsed into items; results are written into a result frame. Byte strings are never
copied here: the tensors of a unit are views of the frame, of an element of the reply, or of the shared segment.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from typing import NamedTuple

FLOAT, DOUBLE, INT8, INT16, INT32, INT64, UINT8, UINT16, BOOL, STRING = range(1, 11)
TYPE_NAMES = ("", "FLOAT", "DOUBLE", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "BOOL", "STRING")

LOAD_MODEL, LOAD_SCRIPT, UNLOAD, RUN, QUIT = range(1, 6)
STYLE_MODEL, STYLE_ENTRY_POINT, STYLE_POSITIONAL = range(3)
STYLE_MEMORY = 1
"""Of a LOAD MODEL: the blob lies in sealed memory."""
OK, ERROR, SKIPPED = range(3)
INLINE, SHARED, ELEMENT, REFERENCE = range(4)

SHARED_FROM = 16 * 1024
"""Outputs of so many bytes and more travel outside of the result frame."""
SHARED_ALIGNMENT = 64

_UNIT = struct.Struct("<QIIQiIQQQ")
_ITEM = struct.Struct("<BBHHHQIiII")
_TENSOR = struct.Struct("<BBBBIQQ")
_RESULTS = struct.Struct("<QII")
_RESULT = struct.Struct("<BBHIQii")
_STRING = struct.Struct("<II")
_DIMS = tuple(struct.Struct(f"<{n}q") for n in range(65))
_PADDING = tuple(bytes(n) for n in range(8))

Dims = tuple[int, ...]
Buffer = bytes | bytearray | memoryview | mmap.mmap


class FrameError(ValueError):
    """A unit frame that does not follow the protocol."""


class Tensor(NamedTuple):
    """A tensor on the wire: type code, dims, and its bytes in row-major order."""

    code: int
    dims: Dims
    blob: Buffer


class Reference(NamedTuple):
    """An input that is an output of an earlier item of the same unit."""

    item: int
    output: int


class Unit(NamedTuple):
    """What the module wants done in one go."""

    unit_id: int
    segment_id: int
    """0: no shared memory."""
    segment_fd: int
    segment_size: int
    room: int
    """Where in the segment outputs may be written, and how many bytes of them."""
    room_size: int
    items: int


class LoadModel(NamedTuple):
    """Load a model and keep it under its version."""

    version: int
    blob: Buffer
    inputs: list[str]
    outputs: list[str]
    batch_size: int
    min_batch_size: int
    memory: int = -1
    """The server's descriptor of the sealed memory that is the blob; -1: `blob` is it."""


class LoadScript(NamedTuple):
    """Compile a script and keep it under its version. No entry points: any function may be called, positionally."""

    version: int
    source: Buffer
    entry_points: list[str]


class Unload(NamedTuple):
    """Forget a version."""

    version: int


class Quit(NamedTuple):
    """Exit."""


class Run(NamedTuple):
    """Run a model, or a function of a script."""

    version: int
    style: int
    function: str
    wanted: bytes
    """One byte for each output: whether it is to be sent back."""
    inputs: list[Tensor | Reference]
    list_at: int
    """Index of the input where the trailing list begins; -1: not said."""
    keys: list[str]
    args: list[str]
    database: int
    start: int = 0
    """Where in the frame the item begins."""
    stop: int = 0


Item = LoadModel | LoadScript | Unload | Quit | Run


def _pad8(length: int) -> int:
    return (length + 7) & ~7


def read_unit(frame: Buffer) -> Unit:
    """Read the header of a unit frame."""
    unit_id, count, _, segment_id, fd, _, size, room, room_size = _UNIT.unpack_from(frame)
    return Unit(unit_id, segment_id, fd, size, room, room_size, count)


def read_items(frame: memoryview, count: int, elements: Sequence[Buffer], segment: memoryview | None) -> list[Item]:
    """Read the items of a unit frame.

    Arguments:
        frame: the whole unit frame; tensors inside it become views of it.
        count: items, as the frame's header says.
        elements: the elements of the reply; 0 is the frame itself.
        segment: the shared segment; None when the unit uses none.
    Raises:
        FrameError: the frame does not follow the protocol.
    """
    try:
        items: list[Item] = []
        at = _UNIT.size
        for _ in range(count):
            kind, style, a, b, c, version, d, e, text_length, f = _ITEM.unpack_from(frame, at)
            start = at
            at += _ITEM.size
            text = str(frame[at : at + text_length], "utf-8", "surrogateescape") if text_length else ""
            at += _pad8(text_length)
            if kind == RUN:
                wanted = bytes(frame[at : at + b])
                at += _pad8(b)
                inputs, at = _read_tensors(frame, at, a, elements, segment)
                keys, at = _read_strings(frame, at, d)
                args, at = _read_strings(frame, at, c)
                items.append(Run(version, style, text, wanted, inputs, e, keys, args, f, start, at))
            elif kind == LOAD_MODEL:
                names, at = _read_strings(frame, at, a + b)
                sealed = style == STYLE_MEMORY
                blob = b"" if sealed else elements[d]
                items.append(LoadModel(version, blob, names[:a], names[a:], e, f, d if sealed else -1))
            elif kind == LOAD_SCRIPT:
                names, at = _read_strings(frame, at, a)
                items.append(LoadScript(version, elements[d], names))
            elif kind == UNLOAD:
                items.append(Unload(version))
            elif kind == QUIT:
                items.append(Quit())
            else:
                raise FrameError(f"unit frame: unknown item kind {kind}")
        return items
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise FrameError(f"unit frame: {error}") from error


def _read_strings(frame: memoryview, at: int, count: int) -> tuple[list[str], int]:
    strings = []
    for _ in range(count):
        length, _ = _STRING.unpack_from(frame, at)
        at += 8
        strings.append(str(frame[at : at + length], "utf-8", "surrogateescape"))
        at += _pad8(length)
    return strings, at


def _read_tensors(
    frame: memoryview, at: int, count: int, elements: Sequence[Buffer], segment: memoryview | None
) -> tuple[list[Tensor | Reference], int]:
    tensors: list[Tensor | Reference] = []
    for _ in range(count):
        code, rank, where, _, index, offset, length = _TENSOR.unpack_from(frame, at)
        at += 24
        dims = _DIMS[rank].unpack_from(frame, at)
        at += 8 * rank
        if where == INLINE:
            tensors.append(Tensor(code, dims, frame[at : at + length]))
            at += _pad8(length)
        elif where == SHARED:
            if segment is None or offset + length > len(segment):
                raise FrameError("unit frame: a tensor lies outside of the shared segment")
            tensors.append(Tensor(code, dims, segment[offset : offset + length]))
        elif where == ELEMENT:
            tensors.append(Tensor(code, dims, memoryview(elements[index])))
        elif where == REFERENCE:
            tensors.append(Reference(index, offset))
        else:
            raise FrameError(f"unit frame: unknown place {where} of a tensor")
    return tensors, at


class ResultFrame:
    """A result frame under construction, with the elements that travel beside it.

    Outputs of SHARED_FROM bytes and more are copied into the segment while there is room; what does not fit becomes an
    element of the command, the rest is written into the frame.
    """

    __slots__ = ("_end", "_room", "_segment", "count", "elements", "frame", "unit_id")

    def __init__(self, unit: Unit, segment: memoryview | None) -> None:
        self.unit_id = unit.unit_id
        self.frame = bytearray(_RESULTS.size)
        self.elements: list[Buffer] = []
        self.count = 0
        self._segment = segment
        self._room = unit.room
        self._end = unit.room + unit.room_size

    def run(self, microseconds: int, outputs: Sequence[Tensor]) -> None:
        """A RUN went well: these are the outputs to be sent back, in order."""
        frame = self.frame
        frame += _RESULT.pack(OK, 0, 0, 0, microseconds, len(outputs), 0)
        for code, dims, blob in outputs:
            rank = len(dims)
            length = len(blob)
            if length < SHARED_FROM:
                frame += _TENSOR.pack(code, rank, INLINE, 0, 0, 0, length)
                frame += _DIMS[rank].pack(*dims)
                frame += blob
                if length & 7:
                    frame += _PADDING[8 - (length & 7)]
                continue
            offset = (self._room + SHARED_ALIGNMENT - 1) & -SHARED_ALIGNMENT
            if self._segment is not None and offset + length <= self._end:
                self._segment[offset : offset + length] = blob
                self._room = offset + length
                frame += _TENSOR.pack(code, rank, SHARED, 0, 0, offset, length)
            else:
                self.elements.append(blob)
                frame += _TENSOR.pack(code, rank, ELEMENT, 0, len(self.elements), 0, length)
            frame += _DIMS[rank].pack(*dims)
        self.count += 1

    def loaded(self, microseconds: int, inputs: Sequence[str] | None, outputs: Sequence[str] | None) -> None:
        """A LOAD went well. The names of inputs and outputs; None: their number is unknown."""
        numbers = [-1 if names is None else len(names) for names in (inputs, outputs)]
        self.frame += _RESULT.pack(OK, 0, 0, 0, microseconds, *numbers)
        for name in (*(inputs or ()), *(outputs or ())):
            encoded = name.encode("utf-8", "surrogateescape")
            self.frame += _STRING.pack(len(encoded), 0) + encoded + _PADDING[-len(encoded) & 7]
        self.count += 1

    def failed(self, microseconds: int, text: str) -> None:
        """An item failed; the caller reads this text."""
        encoded = " ".join(text.splitlines()).encode("utf-8", "replace")
        self.frame += _RESULT.pack(ERROR, 0, 0, len(encoded), microseconds, 0, 0)
        self.frame += encoded + _PADDING[-len(encoded) & 7]
        self.count += 1

    def skipped(self) -> None:
        """An item depends on one that failed."""
        self.frame += _RESULT.pack(SKIPPED, 0, 0, 0, 1, 0, 0)
        self.count += 1

    def finish(self) -> bytearray:
        """Write the header; the frame is ready to be sent."""
        _RESULTS.pack_into(self.frame, 0, self.unit_id, self.count, 0)
        return self.frame
