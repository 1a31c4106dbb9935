"""What the dashboard shows, as plain values for JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from taskensemble.engine.records import AttemptRecord, DatabaseAddressRecord, MemberRecord, State
from taskensemble.engine.store import Store
from taskensemble.generation import member_folder
from taskensemble.results import flat, rows

LETTERS = {
    State.NEW: "n",
    State.QUEUED: "q",
    State.RUNNING: "r",
    State.COMPLETED: "c",
    State.FAILED: "f",
    State.CANCELLED: "x",
    State.PAUSED: "p",
    State.NEVER_STARTED: "n",
}
"""One letter a member in the grid."""

TABLE_LIMIT = 5000
"""Members whose table, plots and time line the page draws; the grid has no limit."""

_MOVING = {"beat", "seen", "age"}
"""Fields of a worker that change with each beat: they would be news every second."""

LOG_TAIL = 64 * 1024
"""Bytes of a log's end that the page shows."""


def overview(store: Store) -> dict[str, Any]:
    """All runs with their counters, the newest first, and the workers."""
    runs = [store.status(run_id).model_dump(mode="json") for run_id in reversed(store.runs())]
    workers = [worker.model_dump(mode="json", exclude=_MOVING) for worker in store.workers()]
    return {"runs": runs, "workers": workers}


def run_detail(store: Store, run_id: str) -> dict[str, Any]:
    """One run: its counters, its entities with theirs, and a letter for each member's state.

    Raises:
        RunNotFoundError: there is no such run
    """
    entities = [
        {
            "name": status.entity.name,
            "kind": status.entity.kind,
            "first": status.entity.first,
            "size": status.entity.size,
            "state": str(status.state),
            **status.counters.model_dump(mode="json"),
        }
        for status in store.entity_status(run_id)
    ]
    return {
        "status": store.status(run_id).model_dump(mode="json"),
        "entities": entities,
        "states": "".join(LETTERS[state] for state in store.states(run_id)),
    }


def member_table(store: Store, run_id: str) -> list[dict[str, Any]]:
    """One row without nesting for each of the first `TABLE_LIMIT` members: parameters, state, times, node, CPUs, results."""
    run = store.run(run_id)
    stop = min(run.size, TABLE_LIMIT)
    members = store.members(run_id, 0, stop)
    attempts = store.attempts(run_id, range(stop))
    found = rows(run, zip(members, attempts, strict=True))
    return [{**flat(row), "slots": list(attempt.slots)} for row, attempt in zip(found, attempts, strict=True)]


def log_tail(store: Store, run_id: str, index: int, stream: str) -> dict[str, Any]:
    """The end of what a member wrote to `out` or `err`, and where the whole of it is."""
    run = store.run(run_id)
    found = store.members(run_id, index, index + 1) if 0 <= index < run.size else []
    if not found:
        return {"path": "", "text": f"The run has no member {index}."}
    member: MemberRecord = found[0]
    attempt: AttemptRecord = store.attempts(run_id, [index])[0]
    path = Path(member_folder(run.entities[member.entity], member)) / f"{member.name}.{stream}"
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - LOG_TAIL))
            text = file.read().decode(errors="replace")
    except OSError as error:
        text = f"{error.strerror}: {path} (the member ran on {attempt.node or 'no node yet'})"
    return {"name": member.name, "path": str(path), "reason": attempt.reason, "text": text}


def databases(store: Store) -> list[dict[str, Any]]:
    """Every running database of the experiments that have runs, with memory, clients and its models' calls."""
    experiments = {run.path: run.experiment for run in map(store.run, store.runs())}
    return [
        {"experiment": name, "identifier": address.identifier, **_database(address)}
        for path, name in sorted(experiments.items())
        for address in store.databases(path).values()
    ]


def _database(address: DatabaseAddressRecord) -> dict[str, Any]:
    shown: dict[str, Any] = {"addresses": list(address.addresses), "up": True, "memory": 0, "clients": 0, "assets": []}
    for where in address.addresses:
        try:
            with _client(where, address.password) as client:
                facts: dict[str, Any] = client.info()
                shown["memory"] += facts["used_memory"]
                shown["clients"] += facts["connected_clients"]
                shown["assets"] += [{"shard": where, **asset} for asset in _assets(client)]
        except (redis.RedisError, OSError) as error:
            shown["up"] = False
            shown["error"] = f"{where}: {error}"
    return shown


def _client(address: str, password: str | None) -> redis.Redis:
    url = address if address.startswith("unix://") else f"redis://{address}"
    return redis.Redis.from_url(url, password=password, protocol=2, socket_timeout=2.0, socket_connect_timeout=2.0)


def _assets(client: redis.Redis) -> list[dict[str, Any]]:
    """AI.INFO of every model and script: calls, errors, samples, time in the backend (seconds)."""
    ask: Any = client.execute_command
    found = []
    for command in ("AI._MODELSCAN", "AI._SCRIPTSCAN"):
        for key, _tag in ask(command):
            reply = ask("AI.INFO", key)
            facts = {reply[at].decode(): reply[at + 1] for at in range(0, len(reply), 2)}
            found.append(
                {
                    "name": _plain(facts["key"]),
                    "type": _plain(facts["type"]),
                    "backend": _plain(facts["backend"]),
                    "device": _plain(facts["device"]),
                    "calls": int(facts["calls"]),
                    "errors": int(facts["errors"]),
                    "samples": int(facts["samples"]),
                    "seconds": int(facts["duration"]) / 1e6,
                }
            )
    return found


def _plain(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
