"""What Celery is told of a member's end, and Flower with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from celery.exceptions import Retry

from taskensemble.generation import folder_path
from taskensemble.generation.reading import read_end
from workers.process import Attempt, Outcome

_TAIL = 4000
"""Bytes of a failed member's log that Celery's event carries."""


class MemberFailed(Exception):
    """A member's program failed: what Flower shows for it."""

    def __repr__(self) -> str:
        return f"FAILED: {self}"


@dataclass(frozen=True)
class Failure:
    """What Celery's events tell of a failed member: the parts of an `ExceptionInfo` that they read. Celery's own would show its
    wrapper around the exception, and a traceback of this file."""

    exception: Exception
    traceback: str
    internal: bool = False
    tb: None = None

    @property
    def type(self) -> type[Exception]:
        """Of the exception."""
        return type(self.exception)


def tell_celery(attempt: Attempt, outcome: Outcome, word: str, secrets: Iterable[str]) -> None:
    """Ends the attempt's request.

    Arguments:
        word: the store's answer to the end: what became of the member.
        secrets: texts that nobody may read in the log's end.
    """
    request = attempt.request
    if not attempt.accepted:
        request.on_accepted(os.getpid(), time.monotonic())
    if word == "stale":
        request.on_success((False, "its lease was gone: the result does not count", outcome.ran))
    elif outcome.letter == "x":
        request._announce_revoked("terminated", True, "SIGTERM", False)
    elif word in ("retry", "delayed"):
        failure = _failure(attempt, outcome, secrets)
        again = Retry(exc=failure.exception, when=outcome.retry_delay)
        request.on_retry(Failure(again, failure.traceback))
    elif outcome.letter == "f":
        request.on_failure(_failure(attempt, outcome, secrets), return_ok=True)
    else:
        request.on_success((False, 0, outcome.ran))


def _failure(attempt: Attempt, outcome: Outcome, secrets: Iterable[str]) -> Failure:
    """The reason, and as its traceback the end of what the program wrote to its standard error, without its secrets."""
    known = MemberFailed(f"return code {outcome.returncode}" if outcome.returncode is not None else outcome.reason)
    if attempt.run is None or attempt.member is None:
        return Failure(known, outcome.reason)
    log = Path(folder_path(attempt.run.entities[attempt.entity], attempt.member), f"{attempt.member.name}.err")
    tail = ""
    if attempt.spawned:
        with suppress(OSError):  # it is shown beside the reason, which names the file
            tail = read_end(log, _TAIL)
    for value in secrets:
        tail = tail.replace(value, "…") if value else tail
    return Failure(known, f"{outcome.reason}\n\n{tail}".rstrip())
