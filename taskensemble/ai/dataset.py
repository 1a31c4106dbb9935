"""Datasets: named tensors and metadata that travel together, in SmartRedis' layout.

In the database a dataset `d` is a hash `{d}.meta` and one tensor key `{d}.<tensor>` each; the braces keep them on one shard.
A field of the hash holds a type byte and then the values: numbers in little-endian, each string as its length (8 bytes)
and its UTF-8. The field `.tensor_names` lists the tensors; `.COMPLETE` is written last, so that no reader sees half a dataset.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arguments import check_type
from .encoding import Array, type_name
from .error import RedisInternalError, RedisKeyError, RedisRuntimeError
from .logger import SRObject

TENSOR_NAMES = b".tensor_names"
COMPLETE = b".COMPLETE"

_SCALARS: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f8"),
    2: np.dtype("<f4"),
    3: np.dtype("<i4"),
    4: np.dtype("<i8"),
    5: np.dtype("<u4"),
    6: np.dtype("<u8"),
}
_CODES = {dtype: code for code, dtype in _SCALARS.items()}
_STRING = 7
_UNSUPPORTED_TENSORS = ("BOOL", "STRING")


def check_tensor(name: str, data: Array) -> None:
    """Raise unless SmartRedis' clients in every language could read such a tensor.

    Raises:
        TypeError: the elements' type.
        RedisRuntimeError: an empty name, no dimension, or a dimension of 0.
    """
    if type_name(data.dtype) in _UNSUPPORTED_TENSORS:
        raise TypeError(f"Incompatible tensor type provided {data.dtype}")
    if not name:
        raise RedisRuntimeError("A name must be provided for the tensor")
    if not data.ndim:
        raise RedisRuntimeError(f"Tensor {name!r} has no dimension: give it one, as in array.reshape(1)")
    if not data.size:
        raise RedisRuntimeError(f"Tensor {name!r} has the shape {data.shape}: all dimensions must be positive")


class Dataset(SRObject):
    """Tensors and metadata under one name, to be stored with `Client.put_dataset`.

    A metadata field holds any number of scalars of one type, or any number of strings; adding to a field appends.
    """

    def __init__(self, name: str) -> None:
        check_type(name, "name", str)
        super().__init__(name)
        self._name = name
        self._tensors: dict[str, Array] = {}
        self._scalars: dict[str, list[np.generic]] = {}
        self._strings: dict[str, list[str]] = {}

    def __str__(self) -> str:
        """A listing, in SmartRedis' words."""
        lines = [f"DataSet ({self._name}):", "Tensors:"]
        for name, tensor in self._tensors.items():
            lines += [
                f"  {name}:",
                f"    type: {_words_for(tensor.dtype)}",
                f"    dimensions: [{', '.join(map(str, tensor.shape))}]",
                f"    elements: {tensor.size}",
            ]
        lines += [*([] if self._tensors else ["  none"]), "Metadata:"]
        fields = self.get_metadata_field_names()
        for name in fields:
            kind = "string" if name in self._strings else _words_for(self._scalars[name][0].dtype)
            lines += [f"  {name}:", f"    type: {kind}"]
        return "\n".join([*lines, *([] if fields else ["  none"])]) + "\n"

    def get_name(self) -> str:
        """The dataset's name, without any prefix."""
        return self._name

    def add_tensor(self, name: str, data: Array) -> None:
        """Add a copy of an array.

        Raises:
            TypeError: the array's elements are of no tensor type.
            RedisRuntimeError: the name is taken, or the array is empty.
        """
        check_type(name, "name", str)
        check_type(data, "data", np.ndarray)
        check_tensor(name, data)
        if name in self._tensors:
            raise RedisRuntimeError(f"The tensor {name} already exists in dataset {self._name}", "Dataset.add_tensor")
        self._tensors[name] = np.array(data, order="C")

    def get_tensor(self, name: str) -> Array:
        """A copy of a tensor.

        Raises:
            RedisKeyError: there is none of that name.
        """
        return self._tensor(name, "get_tensor").copy()

    def get_tensor_names(self) -> list[str]:
        """The names of all tensors."""
        return list(self._tensors)

    def get_tensor_type(self, name: str) -> type[np.generic]:
        """The NumPy scalar type of a tensor."""
        return self._tensor(name, "get_tensor_type").dtype.type

    def get_tensor_dims(self, name: str) -> list[int]:
        """The shape of a tensor."""
        return list(self._tensor(name, "get_tensor_dims").shape)

    def add_meta_scalar(self, name: str, data: float | np.generic | NDArray[Any]) -> None:
        """Append a number to a metadata field, which begins with it if it does not exist.

        Raises:
            TypeError: it is not one number, or not of 32 or 64 bits.
            RedisRuntimeError: the field holds another type.
        """
        check_type(name, "name", str)
        array = np.asarray(data)
        if array.size != 1:
            raise TypeError(f"Argument provided is not a scalar: it has {array.size} elements")
        if array.dtype.newbyteorder("<") not in _CODES:
            raise TypeError(f"Incompatible metadata type provided {array.dtype}")
        value = array.reshape(-1)[0]
        existing = self._scalars.get(name)
        if name in self._strings or (existing and existing[0].dtype != value.dtype):
            raise RedisRuntimeError(
                f"The existing metadata field {name} has a different type than {value.dtype}", "Dataset.add_meta_scalar"
            )
        self._scalars.setdefault(name, []).append(value)

    def add_meta_string(self, name: str, data: str) -> None:
        """Append a string to a metadata field, which begins with it if it does not exist.

        Raises:
            RedisRuntimeError: the field holds numbers.
        """
        check_type(name, "name", str)
        check_type(data, "data", str)
        if name in self._scalars:
            raise RedisRuntimeError(f"The metadata field {name} isn't a string type.", "Dataset.add_meta_string")
        self._strings.setdefault(name, []).append(data)

    def get_meta_scalars(self, name: str) -> NDArray[Any]:
        """The numbers of a field, as an array of its type.

        Raises:
            RedisRuntimeError: there is no such field, or it holds strings.
        """
        check_type(name, "name", str)
        if name in self._strings:
            raise RedisRuntimeError(f"The metadata field {name} is not a scalar field.", "Dataset.get_meta_scalars")
        if name not in self._scalars:
            raise RedisRuntimeError(f"The metadata field {name} does not exist.", "Dataset.get_meta_scalars")
        return np.array(self._scalars[name])

    def get_meta_strings(self, name: str) -> list[str]:
        """The strings of a field.

        Raises:
            RedisRuntimeError: there is no such field, or it holds numbers.
        """
        check_type(name, "name", str)
        if name in self._scalars:
            raise RedisRuntimeError(f"The metadata field {name} is not a string field.", "Dataset.get_meta_strings")
        if name not in self._strings:
            raise RedisRuntimeError(f"The metadata field {name} does not exist.", "Dataset.get_meta_strings")
        return list(self._strings[name])

    def get_metadata_field_names(self) -> list[str]:
        """The names of all metadata fields."""
        return [*self._scalars, *self._strings]

    def get_metadata_field_type(self, name: str) -> type[np.generic] | type[str]:
        """The NumPy scalar type of a field of numbers, or `str`.

        Raises:
            RedisKeyError: there is no such field.
        """
        check_type(name, "name", str)
        if name in self._strings:
            return str
        if name in self._scalars:
            return self._scalars[name][0].dtype.type
        raise RedisKeyError(
            f"Dataset {self._name} does not contain the field {name}", "Dataset.get_metadata_field_type"
        )

    def _tensor(self, name: str, method: str) -> Array:
        check_type(name, "name", str)
        try:
            return self._tensors[name]
        except KeyError:
            raise RedisKeyError(
                f'The tensor "{name}" does not exist in dataset "{self._name}".', f"Dataset.{method}"
            ) from None

    def tensors(self) -> Mapping[str, Array]:
        """The tensors themselves, by name; not to be written to."""
        return self._tensors

    def encoded_metadata(self) -> dict[bytes, bytes]:
        """The fields of the hash that stores this dataset, without the mark of completeness."""
        fields = {
            name.encode(): bytes([_CODES[values[0].dtype.newbyteorder("<")]])
            + np.array(values, dtype=values[0].dtype.newbyteorder("<")).tobytes()
            for name, values in self._scalars.items()
        }
        fields |= {name.encode(): _encode_strings(values) for name, values in self._strings.items()}
        if self._tensors:
            fields[TENSOR_NAMES] = _encode_strings(list(self._tensors))
        return fields

    @classmethod
    def from_stored(cls, name: str, fields: Mapping[bytes, bytes], tensors: Mapping[str, Array]) -> Dataset:
        """The dataset of a stored hash and the tensors that it names."""
        dataset = cls(name)
        dataset._tensors = dict(tensors)
        for field, value in fields.items():
            if field in (TENSOR_NAMES, COMPLETE):
                continue
            code = value[0]
            if code == _STRING:
                dataset._strings[field.decode()] = _decode_strings(value)
            elif code in _SCALARS:
                dataset._scalars[field.decode()] = list(np.frombuffer(value, _SCALARS[code], offset=1))
            else:
                raise RedisInternalError(f"Field {field!r} of dataset {name} has the unknown type code {code}")
        return dataset


def _words_for(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return {4: "float", 8: "double"}[dtype.itemsize]
    return f"{8 * dtype.itemsize} bit {'unsigned' if dtype.kind == 'u' else 'signed'} integer"


def stored_tensor_names(fields: Mapping[bytes, bytes]) -> list[str]:
    """The names of the tensors that belong to a stored hash."""
    value = fields.get(TENSOR_NAMES)
    return _decode_strings(value) if value else []


def _encode_strings(values: list[str]) -> bytes:
    parts = [value.encode() for value in values]
    return bytes([_STRING]) + b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def _decode_strings(value: bytes) -> list[str]:
    strings, at = [], 1
    while at < len(value):
        (length,) = struct.unpack_from("<Q", value, at)
        at += 8
        strings.append(value[at : at + length].decode())
        at += length
    return strings
