"""Which versions of what a run was started with."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("taskensemble", "celery", "redis")


def versions() -> dict[str, str]:
    """Of Python and of the packages that a run depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
