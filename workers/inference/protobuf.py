"""Reading protocol buffers without their schema, to look into a model before a library loads it.

The libraries that load ONNX models and TensorFlow graphs are given the very bytes that were looked at. A field that is written
twice is seen twice here, whichever of the two the library believes.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class BrokenMessage(ValueError):
    """The bytes are no protocol buffer."""


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: number, and an int or the bytes.

    Raises:
        BrokenMessage: the bytes are no protocol buffer.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind == FIXED64:
            length = 8
        elif kind == FIXED32:
            length = 4
        else:
            raise BrokenMessage(f"unknown wire type {kind}")
        if number == 0 or at + length > end:
            raise BrokenMessage("the message ends inside a field")
        yield number, message[at : at + length]
        at += length


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """The submessages, or byte strings, under one field number."""
    for found, value in fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def text(value: int | memoryview) -> str:
    """A string field."""
    return "" if isinstance(value, int) else bytes(value).decode("utf-8", "replace")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise BrokenMessage("the message ends inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
