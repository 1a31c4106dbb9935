"""Which driver, with which versions of what, a run was started with."""

from __future__ import annotations

import os
import platform
import socket
import sys
from importlib import metadata
from pathlib import Path

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


def this_driver() -> str:
    """`host:pid script` of this process; without a script (a prompt, a kernel): `host:pid`."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    script = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    return f"{name} {script.resolve()}" if script is not None and script.suffix == ".py" and script.is_file() else name
