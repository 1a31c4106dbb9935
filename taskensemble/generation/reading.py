"""What members have left in their folders, read by others: a worker, a driver, the dashboard, a report.

A program may put anything under any name. Whoever reads waits for no pipe, opens no device, and takes no more than it asks for.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: str | Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device, a socket or a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "It is no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def read_end(path: str | Path, most: int) -> str:
    """The end of a text file: `most` bytes of it, less the line that they begin inside of.

    Raises:
        OSError: as `open_plain`.
    """
    with open_plain(path) as stream:
        start = max(0, stream.seek(0, os.SEEK_END) - most)
        stream.seek(start)
        text = stream.read(most).decode(errors="replace")
    return text.partition("\n")[2] or text if start else text
