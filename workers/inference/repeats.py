"""The quick way for a unit like the one before.

A simulation asks for the same model again and again with tensors of the same shapes. Such units differ from one another in
their id and in the bytes of their inputs alone. So the fixed parts of a unit with one small RUN are remembered, with arrays
that its inputs are copied into: a repeat is recognised by comparing bytes, instead of being parsed, and its arrays are not made
anew. For a small layer this halves the time that a unit spends in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from .frames import SHARED_FROM, Dims, Run, Tensor

LONGEST = 4096
"""Frames of more bytes gain nothing."""

_VERSION = slice(64, 72)
_UNIT_ID = slice(0, 8)
_MICROSECONDS_AT = 24
_RESULTS = struct.Struct("<QII")
_RESULT = struct.Struct("<BBHIQii")
_TENSOR = struct.Struct("<BBBBIQQ")
_U64 = struct.Struct("<Q")

Reusable = tuple[Any, memoryview]
"""An array of a backend, and its bytes."""


def version_of(frame: bytearray) -> bytes:
    """What templates are kept under: the version id of a frame's first item."""
    return bytes(frame[_VERSION])


class Template:
    """What a unit with one RUN looks like but for its id and its inputs' bytes.

    Arguments:
        frame: a unit frame of that form.
        run: its item; every input is a tensor inside the frame.
        arrays: for each input an array of its own, and its bytes.
        call: computes the outputs from the arrays.
    """

    def __init__(
        self, frame: bytearray, run: Run, arrays: Sequence[Reusable], call: Callable[[list[Any]], Sequence[Any]]
    ) -> None:
        self._length = len(frame)
        self._natives = [native for native, _ in arrays]
        self._call = call
        self._fixed: list[tuple[int, int, bytes]] = []
        self._holes: list[tuple[int, int, memoryview]] = []
        at = len(_U64.pack(0))
        whole = memoryview(frame)
        for tensor, (_, target) in zip(run.inputs, arrays, strict=True):
            assert isinstance(tensor, Tensor)
            start = _offset_of(tensor.blob, frame)
            stop = start + len(tensor.blob)
            self._fixed.append((at, start, bytes(whole[at:start])))
            self._holes.append((start, stop, target))
            at = stop
        self._fixed.append((at, self._length, bytes(whole[at:])))
        self._head = b""
        self._shape: tuple[int, Dims, int] | None = None

    def matches(self, frame: bytearray) -> bool:
        """Whether a frame is of this form."""
        return len(frame) == self._length and all(frame[start:stop] == part for start, stop, part in self._fixed)

    def run(self, frame: bytearray) -> Sequence[Any]:
        """The outputs for a frame that matches."""
        for start, stop, target in self._holes:
            target[:] = frame[start:stop]
        return self._call(self._natives)

    def result(self, frame: bytearray, output: Tensor, microseconds: int) -> bytearray | None:
        """A result frame with one output; None when it is too large for one."""
        code, dims, blob = output
        length = len(blob)
        if length >= SHARED_FROM:
            return None
        shape = (code, dims, length)
        if shape != self._shape:
            self._shape = shape
            self._head = (
                _RESULTS.pack(0, 1, 0)
                + _RESULT.pack(0, 0, 0, 0, 0, 1, 0)
                + _TENSOR.pack(code, len(dims), 0, 0, 0, 0, length)
                + struct.pack(f"<{len(dims)}q", *dims)
            )
        made = bytearray(self._head)
        made[_UNIT_ID] = frame[_UNIT_ID]
        _U64.pack_into(made, _MICROSECONDS_AT, microseconds)
        made += blob
        made += bytes(-length & 7)
        return made


def _offset_of(view: Any, frame: bytearray) -> int:
    """Where in a frame a view of it begins."""
    import ctypes

    def address(buffer: Any) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(buffer))

    return address(view) - address(frame)
