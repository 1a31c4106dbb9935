"""Paths that came from another host: nothing is written outside of the folder that they are meant for."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from taskensemble.errors import TransferError


def below(folder: Path, path: str) -> Path:
    """The place of a relative path below a folder, whose links are not followed out of it.

    Raises:
        TransferError: it would be somewhere else.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or pure == PurePosixPath("."):
        raise TransferError(f"{path!r} is no path below {folder}")
    place = folder / pure
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise TransferError(f"{path!r} leads out of {folder} by a link")
    return place
