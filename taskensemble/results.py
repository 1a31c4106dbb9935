"""What a run brought: one row a member."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from taskensemble.engine.records import AttemptRecord, MemberRecord, RunRecord

LARGEST = 64 * 1024 * 1024
"""Bytes of a result.json that is read."""
DEEPEST = 64
"""How deep its lists and objects may be nested."""


def rows(run: RunRecord, members: Iterable[tuple[MemberRecord, AttemptRecord]]) -> list[dict[str, Any]]:
    """One row for each member.

    Returns:
        list of dict: name, entity, run_id, index, state, returncode, reason, attempt, worker, node, started and ended (Unix
        time), seconds, path, `params` (a dict of str) and `result` (what the program wrote to `result.json` in its folder; None
        without one, and once the folder has passed to another run of the member; `{"unreadable": why}` for one that is no
        JSON, has more than 64 MiB or is nested more than 64 deep)
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


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: null stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, (list, tuple)) else value


def _read(path: Path) -> Any:
    from taskensemble.generation.reading import open_plain

    try:
        with open_plain(path) as stream:
            text = stream.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        return _shown(json.loads(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        return {"unreadable": f"{path}: {error}"}


def _shown(value: Any, depth: int = 0) -> Any:
    """A value that everything else can print: one program's result must not keep the others' from being shown."""
    if depth > DEEPEST:
        raise ValueError(f"lists and objects nested more than {DEEPEST} deep")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
    if isinstance(value, dict):
        return {_shown(key): _shown(each, depth + 1) for key, each in value.items()}
    return [_shown(each, depth + 1) for each in value] if isinstance(value, list) else value
