"""Shared memory of the server, seen from a worker.

Segments are memfds that the server makes; a worker of the same host and process namespace opens them through
`/proc/<server pid>/fd/<n>`. It keeps one at a time, so nothing is left when either side dies. A model to load may lie in a
memfd of its own, which is sealed: it cannot change any more, whoever holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import re
from collections.abc import Iterator

from .frames import Buffer

TOKEN_LENGTH = 16
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_NAMED = re.compile(r"/memfd:taskensemble-([0-9a-f]{64}) \(deleted\)")


class SealedBlob(mmap.mmap):
    """A model's bytes in memory that nobody can change; `path` is a file of exactly these bytes while they are open."""

    path: str
    digest: bytes
    """SHA-256. Who sealed the memory, a process of the same user, has said it in the memory's name, or it is computed."""


@contextlib.contextmanager
def open_sealed(path: str) -> Iterator[SealedBlob]:
    """Open a sealed memfd; raises OSError when it is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise PermissionError(f"{path} is not sealed")
        blob = SealedBlob(descriptor, 0, prot=mmap.PROT_READ)
        blob.path = f"/proc/self/fd/{descriptor}"
        named = _NAMED.fullmatch(os.readlink(blob.path))
        blob.digest = bytes.fromhex(named[1]) if named else hashlib.sha256(blob).digest()
        yield blob
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def as_file(blob: Buffer) -> Iterator[str]:
    """The path of a file that holds a model's bytes, for libraries that read files with fewer copies than bytes."""
    if isinstance(blob, SealedBlob):
        yield blob.path
        return
    with os.fdopen(os.memfd_create("taskensemble", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        rest = memoryview(blob)
        while rest:
            rest = rest[file.write(rest) :]
        yield f"/proc/self/fd/{file.fileno()}"


def shares_memory(server_pid: int, probe_fd: int, token: bytes) -> bool:
    """Whether the server's memfds can be opened from here: its probe holds the token that it sent over the socket."""
    if probe_fd < 0 or len(token) != TOKEN_LENGTH:
        return False
    try:
        descriptor = os.open(f"/proc/{server_pid}/fd/{probe_fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.pread(descriptor, TOKEN_LENGTH, 0) == token
    except OSError:
        return False
    finally:
        os.close(descriptor)


class Segment:
    """The segment that is mapped now."""

    def __init__(self, server_pid: int) -> None:
        self._server_pid = server_pid
        self._id = 0
        self._view: memoryview | None = None

    def sealed(self, descriptor: int) -> contextlib.AbstractContextManager[SealedBlob]:
        """The sealed memory that the server holds under a descriptor."""
        return open_sealed(f"/proc/{self._server_pid}/fd/{descriptor}")

    def mailbox(self, descriptor: int) -> mmap.mmap:
        """Memory in which the server posts units, mapped."""
        opened = os.open(f"/proc/{self._server_pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            return mmap.mmap(opened, 0)
        finally:
            os.close(opened)

    def view(self, segment_id: int, fd: int, size: int) -> memoryview | None:
        """The bytes of a segment, mapped when it is another than before; None for id 0, which means no segment."""
        if not segment_id:
            return None
        if segment_id != self._id:
            # The mapping before goes with its last view, which ends with the unit that made it.
            self._view = None
            descriptor = os.open(f"/proc/{self._server_pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
            try:
                self._view = memoryview(mmap.mmap(descriptor, size))
            finally:
                os.close(descriptor)
            self._id = segment_id
        return self._view
