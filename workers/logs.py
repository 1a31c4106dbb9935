"""What a worker logs, as lines of text or of JSON.

A line of JSON has `time` (ISO 8601, UTC), `level`, `logger`, `worker` and `message`; where it is about a run, `run`; where it is
about a member, also `member` (its name; before that is known its index) and `attempt`; with a traceback, `traceback`.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

from workers.process import Attempt

FIELDS = ("run", "member", "attempt")


def configure(level: str, form: Literal["text", "json"], worker: str) -> None:
    """Sets up the logging of this process, to standard error."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines(worker) if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def about(attempt: Attempt) -> dict[str, object]:
    """`extra` of a message about an attempt."""
    name = attempt.index if attempt.member is None else attempt.member.name
    return {"run": attempt.run_id, "member": name, "attempt": attempt.number}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "worker": self._worker,
        }
        fields.update({name: getattr(record, name) for name in FIELDS if hasattr(record, name)})
        fields["message"] = record.getMessage()
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)
