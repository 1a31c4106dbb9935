"""Folders and their paths: walked completely, for a folder that cannot be read is an error where `os.walk` leaves out what is in
it; and such as records and configurations can name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

from taskensemble.errors import InputError


def walk(path: str | os.PathLike[str], *, follow_links: bool = False) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`; of what is no folder, nothing.

    Raises:
        OSError: a folder cannot be read.
    """
    if os.path.isdir(path):
        yield from os.walk(os.fspath(path), onerror=_raise, followlinks=follow_links)


def check_path(path: str, said: str) -> str:
    """A path, if it can be named in a record, which is UTF-8, and in a server's configuration, which has a line for it.

    Raises:
        InputError: it cannot.
    """
    if any(ord(character) < 32 or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in path):
        raise InputError(
            f"{said}={path!r} has line breaks, control characters or bytes that are no UTF-8, which no record can name: "
            "rename the file or folder, or give another one"
        )
    return path


def _raise(error: OSError) -> NoReturn:
    raise error
