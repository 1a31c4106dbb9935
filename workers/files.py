"""Members' files where hosts share no file system: fetched before an attempt, sent back after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import redis

from taskensemble.engine.records import RunRecord
from taskensemble.engine.store import Store
from taskensemble.errors import ControlPlaneError, TransferError
from taskensemble.generation import generate_member, member_folder
from taskensemble.transfer import Scratch
from taskensemble.transfer.contents import contents_of
from taskensemble.transfer.outputs import Snapshot, restore, send, snapshot
from workers.process import Attempt, Outcome

_T = TypeVar("_T")
_AGAIN = 1.0
"""Seconds between two tries to reach a store that is away."""


class TransferredFiles:
    """The files of one worker's attempts."""

    def __init__(self, store: Store, worker: str, lease: float) -> None:
        self.scratch = Scratch(worker)
        self._store = store
        self._patience = lease
        self._before: dict[int, Snapshot] = {}

    def localized(self, run: RunRecord, active: set[str]) -> RunRecord:
        """A run with the paths that it has here; what is left of runs that are not active is deleted."""
        self.scratch.drop_runs({*active, run.run_id})
        return self.scratch.localized(run)

    def fetch(self, attempt: Attempt) -> None:
        """Make an attempt's folder: its inputs, and what the attempt before has sent back.

        Raises:
            TransferError: an input is damaged or gone, or no store can be reached.
            OSError, TaskensembleError: what generation raises.
        """
        run, member = attempt.run, attempt.member
        assert run is not None
        assert member is not None
        folder = member_folder(run.entities[member.entity], member)
        self._patiently(
            attempt, partial(self.scratch.fetch, run, attempt.template.files, partial(contents_of, self._store, run))
        )
        # An attempt that was lost here may have left something.
        self.scratch.drop_member(folder)
        generate_member(run, run.entities[member.entity], attempt.template, member)
        self._before[attempt.id] = snapshot(folder)
        if attempt.number > 1:
            self._patiently(attempt, partial(restore, self._store, run, member, folder))

    def send_back(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """Send what an attempt has left, and delete its folder here; the outcome, with what became of its files.

        Raises:
            TransferError: no store can be reached.
        """
        run, member = attempt.run, attempt.member
        assert run is not None
        assert member is not None
        folder = member_folder(run.entities[member.entity], member)
        outcome = replace(outcome, reason=self.scratch.as_the_driver_sees(outcome.reason, folder))
        before = self._before.pop(attempt.id, {})
        try:
            over = self._patiently(attempt, partial(send, self._store, run, member, attempt.number, folder, before))
        finally:
            self.scratch.drop_member(folder)
        if over and outcome.letter == "c":
            return replace(outcome, letter="f", reason=over)
        return replace(outcome, reason=f"{outcome.reason}; {over}") if over and outcome.letter == "f" else outcome

    def close(self) -> None:
        """Delete everything of this worker."""
        self.scratch.close()

    def _patiently(self, attempt: Attempt, step: Callable[[], _T]) -> _T:
        """A store that restarts costs nothing but time: it is tried again for one lease, unless the attempt is lost."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return step()
            except (redis.RedisError, ControlPlaneError) as error:
                if attempt.lost or time.monotonic() > deadline:
                    raise TransferError(f"the record store cannot be reached: {error}") from error
                time.sleep(_AGAIN)
