"""Folders, walked completely: a folder that cannot be read is an error, where `os.walk` leaves out what is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn


def walk(path: str | os.PathLike[str], *, follow_links: bool = False) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`; of what is no folder, nothing.

    Raises:
        OSError: a folder cannot be read.
    """
    if os.path.isdir(path):
        yield from os.walk(os.fspath(path), onerror=_raise, followlinks=follow_links)


def _raise(error: OSError) -> NoReturn:
    raise error
