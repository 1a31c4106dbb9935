"""Celery's result backend, answered from the run's record.

Members have no result keys of their own: the store counts them into their chord and knows how each ended, so Celery's
`AsyncResult`, and Flower with it, read a member's state there. Nothing is written here.
"""

from __future__ import annotations

import os
from typing import Any

from celery import states
from celery.backends.base import Backend

from taskensemble.engine.messages import parse_task_id
from taskensemble.engine.records import State
from taskensemble.engine.store import Store
from taskensemble.errors import RunNotFoundError

_CELERY = {
    State.NEW: states.PENDING,
    State.QUEUED: states.PENDING,
    State.RUNNING: states.STARTED,
    State.COMPLETED: states.SUCCESS,
    State.FAILED: states.FAILURE,
    State.CANCELLED: states.REVOKED,
}


class RecordBackend(Backend):  # type: ignore[misc]
    """Reads states from the record store that TASKENSEMBLE_STORE_URL (or the broker) names."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The record store, connected at first use."""
        if self._store is None:
            self._store = Store(os.environ.get("TASKENSEMBLE_STORE_URL") or os.environ["TASKENSEMBLE_BROKER_URL"])
        return self._store

    def store_result(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to store: the record has it."""

    def mark_as_started(self, *args: Any, **kwargs: Any) -> None:
        """The record has it."""

    def mark_as_done(self, *args: Any, **kwargs: Any) -> None:
        """The record has it."""

    def mark_as_failure(self, *args: Any, **kwargs: Any) -> None:
        """The record has it."""

    def mark_as_retry(self, *args: Any, **kwargs: Any) -> None:
        """The record has it."""

    def mark_as_revoked(self, *args: Any, **kwargs: Any) -> None:
        """The record has it."""

    def process_cleanup(self) -> None:
        """Nothing was opened for a task."""

    def get_state(self, task_id: str) -> str:
        """Celery's word for a member's state."""
        return str(self.get_task_meta(task_id)["status"])

    def get_task_meta(self, task_id: str, **_: Any) -> dict[str, Any]:
        """State, and return code or reason, of the member whose task this is."""
        known = parse_task_id(task_id)
        meta: dict[str, Any] = {"task_id": task_id, "status": states.PENDING, "result": None, "traceback": None}
        if known is None:
            return meta
        try:
            record = self.store.attempts(known[0], [known[1]])[0]
        except (RunNotFoundError, IndexError):
            return meta
        meta["status"] = _CELERY[record.state]
        meta["result"] = Exception(record.reason) if record.state is State.FAILED else record.returncode
        return meta

    _get_task_meta_for = get_task_meta
