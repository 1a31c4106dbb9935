"""What every test stands on: no process that a test started may outlive the session.

Each pytest process marks its environment with a token of its own; what it starts inherits the token. At the end every
process that still carries it is named, ended, and the suite fails.
"""

from __future__ import annotations

import importlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

TOKEN = "TASKENSEMBLE_TEST_SESSION"


def pytest_configure(config: pytest.Config) -> None:
    os.environ[TOKEN] = uuid.uuid4().hex
    with suppress(ImportError):
        # Of torch's builds for GPUs: loaded after TensorFlow it ends the process, and tests of both share one.
        importlib.import_module("triton")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # A shell that runs the suite in the background ignores interrupts, and so would every driver that a test interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _marked(token: str) -> Iterator[tuple[int, str]]:
    needle = f"{TOKEN}={token}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if needle in (entry / "environ").read_bytes():
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended while we looked, or belongs to somebody else


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if getattr(session.config.option, "numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        return  # the controller runs no test; its xdist workers carry its token
    token = os.environ[TOKEN]
    # The guard of a killed worker looks for its store for 30 s before it ends.
    deadline = time.monotonic() + 45
    while (left := list(_marked(token))) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid, command in left:
        print(f"\nleaked process {pid}: {command}")
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
