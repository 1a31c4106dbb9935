"""The quick way through small units, in C: `quick.c` beside this file, where it was compiled.

Without the library, or for what the library leaves, the Python loop does everything; it is some 50 µs a unit slower.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .connection import Connection
from .frames import Run, Tensor
from .repeats import Reusable

LIBRARY = Path(__file__).parent / "taskensemble_quick.so"


class _Library:
    """The functions of the compiled file."""

    def __init__(self, path: Path) -> None:
        # PyDLL: they are called with the interpreter's lock held, and raise what they leave set.
        functions = ctypes.PyDLL(str(path))
        size, pointer = ctypes.c_size_t, ctypes.c_void_p
        sizes = ctypes.POINTER(size)
        self.create = functions.quick_create
        self.create.restype = pointer
        self.create.argtypes = [
            *(ctypes.c_int, pointer, size, ctypes.c_char_p, size, ctypes.c_int64),
            *(ctypes.py_object, ctypes.c_int),
        ]
        self.remember = functions.quick_remember
        self.remember.restype = ctypes.c_int
        self.remember.argtypes = [
            *(pointer, ctypes.c_char_p, size, ctypes.c_int, sizes, sizes, ctypes.POINTER(pointer)),
            *(ctypes.py_object, ctypes.py_object, ctypes.c_int, ctypes.c_int),
        ]
        self.listen = functions.quick_listen
        self.listen.restype = None
        self.listen.argtypes = [pointer, pointer]
        self.forget = functions.quick_forget
        self.forget.restype = None
        self.forget.argtypes = [pointer, ctypes.c_uint64]
        self.serve = functions.quick_serve
        self.serve.restype = ctypes.c_ssize_t
        self.serve.argtypes = [pointer]
        self.free = functions.quick_free
        self.free.restype = None
        self.free.argtypes = [pointer]


def load() -> _Library | None:
    """The compiled library; None where there is none, or none for this machine."""
    try:
        return _Library(LIBRARY)
    except (OSError, AttributeError):
        return None


class Quick:
    """The quick way through the units of one connection.

    Arguments:
        library: from `load`.
        connection: whose replies are units.
        command: the words of NEXT before the result frame, encoded.
        poll: microseconds to poll the socket before sleeping.
        bytes_of: makes an object with the buffer protocol of an output; None: outputs have one.
    """

    def __init__(
        self,
        library: _Library,
        connection: Connection,
        command: bytes,
        poll: int,
        bytes_of: Callable[[Any], Any] | None,
    ) -> None:
        self._library = library
        self._buffer = (ctypes.c_char * len(connection.buffer)).from_buffer(connection.buffer)
        self._connection = connection
        has_buffers = bytes_of is None
        self._quick = library.create(
            connection.fileno(),
            self._buffer,
            len(self._buffer),
            command,
            len(command),
            poll * 1000,
            bytes_of,
            has_buffers,
        )
        if not self._quick:
            raise MemoryError

    def serve(self) -> None:
        """Answer units until one has arrived that is to be answered by others; raises OSError when the connection ends."""
        count = self._library.serve(self._quick)
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        self._connection.received(count)

    def listen(self, mailbox: mmap.mmap) -> None:
        """Answer units that the server posts in shared memory, too, while this polls."""
        self._mailbox = (ctypes.c_char * len(mailbox)).from_buffer(mailbox)
        self._library.listen(self._quick, self._mailbox)

    def remember(
        self, frame: bytearray, run: Run, arrays: Sequence[Reusable], call: Callable[..., Any], *, single: bool
    ) -> None:
        """Answer runs like this one from now on.

        Arguments:
            frame: the unit that holds it; every input is a tensor inside the frame.
            run: one whose outputs are all to be sent back.
            arrays: for each input an array of its own, and its bytes.
            call: takes the arrays and computes the outputs, without a state.
            single: it returns the output itself, not a sequence of outputs.
        """
        item = bytes(memoryview(frame)[run.start : run.stop])
        base = _address(frame) + run.start
        blobs = [value.blob for value in run.inputs if isinstance(value, Tensor)]
        count = len(blobs)
        self._library.remember(
            *(self._quick, item, len(item), count),
            (ctypes.c_size_t * count)(*(_address(blob) - base for blob in blobs)),
            (ctypes.c_size_t * count)(*(len(blob) for blob in blobs)),
            (ctypes.c_void_p * count)(*(_address(target) for _, target in arrays)),
            *(call, tuple(native for native, _ in arrays), len(run.wanted), single),
        )

    def forget(self, version: int) -> None:
        """Forget what is known of a version."""
        self._library.forget(self._quick, version)

    def close(self) -> None:
        """Give everything back; nothing else may be called afterwards."""
        self._library.free(self._quick)


def _address(buffer: Any) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
