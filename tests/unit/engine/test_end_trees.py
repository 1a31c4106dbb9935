"""What carries an attempt's mark is ended, and what has ended is not waited for."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from workers import process

TOKEN = "worker:1.2:3"
RLIMIT_LOCKS = 10
WITHOUT_ENVIRONMENT: dict[str, str] = {}


@pytest.fixture
def marked() -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries the mark alone, having emptied its environment."""
    mark = process.mark_of(f"TASKENSEMBLE_ATTEMPT_ID={TOKEN}".encode())
    program = "import sys; print(flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], env=WITHOUT_ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    hard = resource.prlimit(child.pid, RLIMIT_LOCKS)[1]
    resource.prlimit(child.pid, RLIMIT_LOCKS, (mark, hard))
    assert child.stdout is not None
    child.stdout.readline()
    with child:
        yield child
        child.kill()


def test_a_process_without_an_environment_is_ended_by_its_mark(marked: subprocess.Popen[bytes]) -> None:
    process.end_trees({TOKEN})
    assert marked.wait(10) == -9


def test_a_process_that_nobody_has_asked_for_its_exit_status_is_not_waited_for(marked: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    process.end_trees({TOKEN})  # this test is its parent, and asks for nothing meanwhile
    assert time.monotonic() - began < 15
