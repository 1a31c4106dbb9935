"""Shared memory of the server, seen from a worker.

Segments are memfds that the server makes; a worker of the same host and process namespace opens them through
`/proc/<server pid>/fd/<n>`. It keeps one at a time, so nothing is left when either side dies.
"""

from __future__ import annotations

import mmap
import os

TOKEN_LENGTH = 16


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
