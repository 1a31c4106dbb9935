"""Ends of members that their worker could not record any more: its guard has noted them in a file.

Worker and guard share a file in a folder of this node. A program's end is noted before the program is reaped, and the note goes
when the record has the end. Whoever takes a dead worker's attempts back (the guard's epitaph, a reaper of the node, the worker
itself after its guard's death) looks there first: what had ended is recorded, only what had not runs again.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from taskensemble.engine.records import RunRecord
from taskensemble.engine.replies import Held
from taskensemble.engine.store import Store
from taskensemble.generation import folder_path
from taskensemble.guard import Ended, Why, read_ends
from workers import process
from workers.process import Attempt, Outcome
from workers.slots import Slot

FOLDER = "TASKENSEMBLE_ENDS"
"""Variable: folder of the files; one that all nodes share lets a reaper elsewhere read what a node has left."""
_TOLD = frozenset(code for number in (signal.SIGTERM, signal.SIGKILL) for code in (-number, 128 + number))
_KEPT = 7 * 86400.0
"""Seconds after which a file that nobody asked for is deleted."""


def file_of(token_prefix: str) -> Path | None:
    """The file of a worker process, by what the tokens of its attempts begin with; None: this node offers no place for it."""
    given = os.environ.get(FOLDER)
    folder = Path(given) if given else Path(tempfile.gettempdir(), f"taskensemble-{os.getuid()}-ends")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Below the temporary folder anybody may have laid a link of this name.
        if (folder.stat() if given else folder.lstat()).st_uid != os.getuid():
            return None
    except OSError:
        return None
    return folder / quote(token_prefix, safe="")


def is_guarded(token_prefix: str) -> bool:
    """Whether the guard of a worker process lives on this node, or its epitaph: they take back what the worker had."""
    path = file_of(token_prefix)
    if path is None:
        return False
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def drop(token_prefix: str) -> None:
    """Deletes a worker's file: the record has all that was in it."""
    path = file_of(token_prefix)
    if path is not None:
        path.unlink(missing_ok=True)


def drop_old() -> None:
    """Deletes files that nobody has asked for in a long time."""
    path = file_of("")
    with suppress(OSError):
        for old in path.iterdir() if path is not None else ():
            if time.time() - old.stat().st_mtime > _KEPT:
                old.unlink()


def may_be_told(report: Ended) -> bool:
    """Whether a program may have ended because all processes of its job or service were told to end, not of itself.

    A shell says so of its child with 128 + the signal's number.
    """
    return report.why is Why.ITSELF and report.returncode in _TOLD


def counts(report: Ended, *, scheduled: bool) -> bool:
    """Whether a noted end counts although its worker or guard was killed then, and could not look at what else happened.

    Arguments:
        scheduled: a scheduler may have ended the program with its job. It ends its steps first, then the worker: a failure
            there may be the job's.
    """
    if report.why not in (Why.ITSELF, Why.WALLTIME, Why.MEMORY):
        return False
    return not report.returncode if scheduled else not may_be_told(report)


class Notes:
    """What guards have noted, each file read once."""

    def __init__(self) -> None:
        self._files: dict[str, dict[int, Ended]] = {}

    def find(self, token: str) -> Ended | None:
        """How the program of an attempt has ended, as far as anybody knew."""
        prefix, _, number = token.rpartition(":")
        prefix += ":"
        if prefix not in self._files:
            path = file_of(prefix)
            self._files[prefix] = {} if path is None else read_ends(path)
        return self._files[prefix].get(int(number)) if number.isdigit() else None


def record(store: Store, run: RunRecord, held: Held, report: Ended) -> str:
    """Records a noted end as its worker would have; the store's answer."""
    member = store.members(run.run_id, held.member, held.member + 1)[0]
    attempt = Attempt(
        id=0,
        run_id=run.run_id,
        index=held.member,
        entity=member.entity,
        token=held.token,
        request=None,
        queue="",
        slot=Slot(()),
        number=held.attempt,
        failures=held.failures,
        run=run,
        member=member,
    )
    folder = folder_path(run.entities[member.entity], member)
    outcome = process.outcome_of(attempt, report, folder)
    if attempt.template.policy.keep_outputs == "failed":
        process.drop_outputs(folder, member.name, completed=outcome.letter == "c")
    return store.finish(run.run_id, held.member, member.entity, held.token, *finish_words(outcome))


def finish_words(outcome: Outcome) -> tuple[str, str, str, str, str]:
    """An outcome in the words of store.lua's `finish`."""
    code = "" if outcome.returncode is None else str(outcome.returncode)
    delay = "" if outcome.retry_delay is None else f"{outcome.retry_delay:g}"
    return outcome.letter, code, outcome.reason, f"{outcome.ran:.4f}", delay
