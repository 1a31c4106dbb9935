"""What a run brought: one row a member."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from taskensemble.engine.records import AttemptRecord, MemberRecord, RunRecord


def rows(run: RunRecord, members: Iterable[tuple[MemberRecord, AttemptRecord]]) -> list[dict[str, Any]]:
    """One row for each member.

    Returns:
        list of dict: name, entity, run_id, index, state, returncode, reason, attempt, worker, node, started and ended (Unix
        time), seconds, path, `params` (a dict of str) and `result` (what the program wrote to `result.json` in its folder; None
        without one, and once the folder has passed to another run of the member)
    """
    from taskensemble.generation import RESULT, is_passed_on, member_folder

    found = []
    for member, attempt in members:
        path = member_folder(run.entities[member.entity], member)
        result = None if attempt.started is None else _read(path / RESULT)
        if result is not None and is_passed_on(path, member, run):
            result = None
        seconds = None if attempt.started is None or attempt.ended is None else attempt.ended - attempt.started
        found.append(
            {
                "name": member.name,
                "entity": run.entities[member.entity].name,
                "run_id": run.run_id,
                "index": member.index,
                "state": str(attempt.state),
                "returncode": attempt.returncode,
                "reason": attempt.reason,
                "attempt": attempt.attempt,
                "worker": attempt.worker,
                "node": attempt.node,
                "started": attempt.started,
                "ended": attempt.ended,
                "seconds": seconds,
                "path": str(path),
                "params": dict(member.params),
                "result": result,
            }
        )
    return found


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without nesting: `params.THERMO`, `result.error`; for tables and data frames."""
    plain: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            plain.update({f"{key}.{inner}": each for inner, each in value.items()})
        else:
            plain[key] = value
    return plain


def frame(table: Iterable[Mapping[str, Any]]) -> Any:
    """The rows as a pandas DataFrame, its columns named as by `flat`.

    Raises:
        ImportError: pandas is not installed
    """
    import pandas

    return pandas.DataFrame([flat(row) for row in table])


def _read(path: Any) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return {"unreadable": f"{path}: {error}"}
