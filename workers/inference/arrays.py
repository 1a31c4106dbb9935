"""NumPy arrays as native values, and what the backends that compute on them have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from .backend import BackendError, Database, Script
from .frames import BOOL, DOUBLE, FLOAT, INT8, INT16, INT32, INT64, STRING, UINT8, UINT16, Dims, Tensor

Array = np.ndarray[Any, np.dtype[Any]]

_DTYPES: dict[int, np.dtype[Any]] = {
    FLOAT: np.dtype(np.float32),
    DOUBLE: np.dtype(np.float64),
    INT8: np.dtype(np.int8),
    INT16: np.dtype(np.int16),
    INT32: np.dtype(np.int32),
    INT64: np.dtype(np.int64),
    UINT8: np.dtype(np.uint8),
    UINT16: np.dtype(np.uint16),
    BOOL: np.dtype(np.bool_),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_COPIED_BELOW = 4096


def native_array(tensor: Tensor) -> Array:
    """An array over a tensor's bytes. STRING becomes an array of bytes objects."""
    code, dims, blob = tensor
    if code == STRING:
        elements = bytes(blob).split(b"\0")[:-1]
        strings = np.empty(len(elements), dtype=object)
        strings[:] = elements
        return strings.reshape(dims)
    array: Array = np.frombuffer(blob, _DTYPES[code])
    return array.reshape(dims)


def wire_array(array: Array) -> Tensor:
    """Type, dims and bytes of an array. Half precision, which the wire has no type for, becomes FLOAT."""
    kind = array.dtype.kind
    if kind in "OSU":
        return Tensor(STRING, array.shape, b"".join(_encoded(value) + b"\0" for value in array.flat))
    if array.dtype == np.float16 or array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    code = _CODES.get(array.dtype)
    if code is None:
        raise BackendError(f"Model returned a tensor of the unsupported type {array.dtype}")
    if array.nbytes < _COPIED_BELOW:
        return Tensor(code, array.shape, array.tobytes())
    return Tensor(code, array.shape, memoryview(np.ascontiguousarray(array).data).cast("B"))


def _encoded(value: object) -> bytes:
    encoded = value if isinstance(value, bytes) else str(value).encode("utf-8")
    if b"\0" in encoded:
        raise BackendError("Model returned a string with a NUL inside, which ends a STRING element on the wire")
    return encoded


class ArrayBackend:
    """A backend whose native values are NumPy arrays, and which runs no scripts."""

    bytes_of = None
    placed = None

    def limit_runs(self, milliseconds: int) -> None:
        """Nothing here interrupts a run: the module replaces a worker that takes too long."""

    def load_script(self, source: str, entry_points: list[str], database: Database) -> Script:  # noqa: ARG002
        """Scripts are TorchScript."""
        raise BackendError("scripts are run by the TORCH backend")

    def native(self, tensor: Tensor) -> Array:
        """A NumPy array over the bytes."""
        return native_array(tensor)

    def reusable(self, code: int, dims: Dims) -> tuple[Array, memoryview] | None:
        """An array to copy inputs into, and its bytes; none for strings and empty tensors."""
        if code == STRING or 0 in dims:
            return None
        array: Array = np.empty(dims, _DTYPES[code])
        return array, memoryview(array.reshape(-1).data).cast("B")

    def wire(self, value: Any) -> Tensor:
        """Type, dims and bytes."""
        return wire_array(value)
