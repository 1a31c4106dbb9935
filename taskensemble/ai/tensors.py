"""The client's calls on tensors and keys."""

from __future__ import annotations

import numpy as np

from .arguments import check_type
from .dataset import check_tensor
from .encoding import Array, decode, encode
from .resp import Argument, Reply
from .session import Session, reported
from .topology import Command, key_slot


def tensor_set(key: bytes, array: Array) -> Command:
    """The command that stores an array."""
    tensor = encode(array)
    return Command(key, (b"AI.TENSORSET", key, tensor.dtype, *tensor.shape, b"BLOB", tensor.blob))


def tensor_get(key: bytes) -> Command:
    """The command that fetches a tensor."""
    return Command(key, (b"AI.TENSORGET", key, b"META", b"BLOB"))


def tensor_of(reply: Reply) -> Array:
    """The array in the reply to `tensor_get`."""
    _, dtype, _, shape, _, blob = reply
    return decode(dtype.decode(), shape, blob)


def tensor_reset(key: bytes, reply: Reply) -> tuple[Argument, ...]:
    """The command that stores under a key what `tensor_get` replied, as it came."""
    _, dtype, _, shape, _, blob = reply
    return (b"AI.TENSORSET", key, dtype, *shape, b"BLOB", blob)


class TensorCalls(Session):
    """Tensors by name, and keys as they are."""

    @reported
    def put_tensor(self, name: str, data: Array) -> None:
        """Store an array as a tensor.

        Arguments:
            name: under which; SSKEYOUT goes before it.
            data: of any shape, in any memory layout; float32, float64, int8 to int64, uint8 or uint16.

        Raises:
            TypeError: no array, or elements of another type.
            RedisRuntimeError: the name is empty, or the array has no dimension or no element.
        """
        check_type(name, "name", str)
        check_type(data, "data", np.ndarray)
        check_tensor(name, data)
        self._topology.one(tensor_set(self._write_key("tensor", name), data))

    @reported
    def get_tensor(self, name: str) -> Array:
        """Fetch a tensor from the data source.

        Raises:
            RedisRuntimeError: there is none of that name.
        """
        check_type(name, "name", str)
        return tensor_of(self._topology.one(tensor_get(self._read_key("tensor", name))))

    @reported
    def delete_tensor(self, name: str) -> None:
        """Delete a tensor of the data source; that there is none is no error."""
        check_type(name, "name", str)
        key = self._read_key("tensor", name)
        self._call(key, b"UNLINK", key)

    @reported
    def copy_tensor(self, src_name: str, dest_name: str) -> None:
        """Copy a tensor of the data source to a name of one's own.

        Raises:
            RedisRuntimeError: there is no such tensor.
        """
        check_type(src_name, "src_name", str)
        check_type(dest_name, "dest_name", str)
        self._copy(self._read_key("tensor", src_name), self._write_key("tensor", dest_name))

    @reported
    def rename_tensor(self, old_name: str, new_name: str) -> None:
        """Move a tensor of the data source to a name of one's own.

        Raises:
            RedisRuntimeError: there is no such tensor.
        """
        check_type(old_name, "old_name", str)
        check_type(new_name, "new_name", str)
        old, new = self._read_key("tensor", old_name), self._write_key("tensor", new_name)
        if not self._topology.clustered or key_slot(old) == key_slot(new):
            self._call(old, b"RENAME", old, new, repeatable=False)
            return
        self._copy(old, new)
        self._call(old, b"UNLINK", old)

    def _copy(self, source: bytes, target: bytes) -> None:
        reply = self._topology.one(tensor_get(source))
        self._call(target, *tensor_reset(target, reply))

    @reported
    def tensor_exists(self, name: str) -> bool:
        """Whether the data source has a tensor of that name."""
        check_type(name, "name", str)
        return self._exists(self._read_key("tensor", name))

    @reported
    def key_exists(self, key: str) -> bool:
        """Whether a key exists; no prefix is added."""
        check_type(key, "key", str)
        return self._exists(key.encode())

    @reported
    def poll_tensor(self, name: str, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until the data source has a tensor of that name.

        Arguments:
            poll_frequency_ms: milliseconds between looks.
            num_tries: how often to look.

        Returns:
            Whether it was there in the end.
        """
        check_type(name, "name", str)
        key = self._read_key("tensor", name)
        return self._wait_for(lambda: self._exists(key), poll_frequency_ms, num_tries)

    @reported
    def poll_key(self, key: str, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until a key exists; as `poll_tensor`, without a prefix."""
        check_type(key, "key", str)
        return self._wait_for(lambda: self._exists(key.encode()), poll_frequency_ms, num_tries)

    def _exists(self, key: bytes) -> bool:
        return bool(self._call(key, b"EXISTS", key))
