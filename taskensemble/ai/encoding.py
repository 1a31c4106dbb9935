"""Tensors as NumPy arrays and as the bytes of the AI commands: type name, shape, elements.

Elements are little-endian and in C order. BOOL is one byte an element, 0 or 1. The elements of a STRING tensor are UTF-8,
each followed by a NUL byte. Numeric arrays that are contiguous already travel without a copy in either direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype("<f4"),
    "DOUBLE": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "BOOL": np.dtype("?"),
}
"""The NumPy type of each tensor type but STRING."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class EncodedTensor:
    """A tensor as AI.TENSORSET takes it: type name, dimensions, and the elements' bytes."""

    dtype: str
    shape: tuple[int, ...]
    blob: Buffer


def type_name(dtype: np.dtype[Any]) -> str:
    """The tensor type of a NumPy type, in either byte order.

    Raises:
        TypeError: no tensor type has such elements (`uint32`, `complex128`, …).
    """
    if dtype.kind in "USO":
        return "STRING"
    try:
        return _NAMES[dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"Incompatible tensor type provided {dtype}") from None


def encode(array: Array) -> EncodedTensor:
    """The wire form of an array, sharing its memory where the layout allows."""
    name = type_name(array.dtype)
    if name == "STRING":
        return EncodedTensor(name, array.shape, encode_strings(array.ravel().tolist()))
    elements = np.ascontiguousarray(array, dtype=DTYPES[name])
    return EncodedTensor(name, array.shape, elements.reshape(-1).view(np.uint8).data)


def encode_strings(values: Sequence[str | bytes]) -> bytes:
    """The elements of a STRING tensor as one blob."""
    parts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    for part in parts:
        if b"\0" in part:
            raise ValueError(f"A STRING tensor cannot hold {part!r}: a NUL byte ends an element")
    return b"".join(part + b"\0" for part in parts)


def decode(dtype: str, shape: Sequence[int], blob: Buffer) -> Array:
    """The array of a tensor. It is writable; a blob of bytes is copied, another buffer becomes the array's memory.

    Raises:
        ValueError: the type is unknown, or the blob's length does not fit the shape.
    """
    if dtype == "STRING":
        strings = bytes(blob).split(b"\0")[:-1]
        return np.array([part.decode() for part in strings], dtype=str).reshape(tuple(shape))
    try:
        kind = DTYPES[dtype]
    except KeyError:
        raise ValueError(f"Unknown tensor type {dtype!r}; known are {', '.join([*DTYPES, 'STRING'])}") from None
    array = np.frombuffer(blob, dtype=kind).reshape(tuple(shape))
    return array if array.flags.writeable else array.copy()
