"""What the dashboard shows, as plain values for JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import redis

from taskensemble.database.figures import asset_keys, read_figures
from taskensemble.engine.records import AttemptRecord, DatabaseAddressRecord, MemberRecord, State
from taskensemble.engine.store import Store
from taskensemble.errors import RunNotFoundError
from taskensemble.generation import member_folder
from taskensemble.generation.reading import read_end
from taskensemble.handle import cause
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

_FIGURES = {
    "memory": "used_memory",
    "clients": "connected_clients",
    "workers": "ai_inference_workers",
    "busy": "ai_busy_workers",
    "waiting": "ai_waiting_jobs",
}
"""Figures of a database, and the fields of INFO that they are the sum of over its servers."""

FAILURES = 12
"""Failed members that are named beside the grid."""

LOG_TAIL = 64 * 1024
"""Bytes of a log's end that the page shows."""


def overview(store: Store) -> dict[str, Any]:
    """All runs with their counters, the newest first, and the workers."""
    runs = [store.status(run_id).model_dump(mode="json") for run_id in reversed(store.runs())]
    workers = [worker.model_dump(mode="json", exclude=_MOVING) for worker in store.workers()]
    return {"runs": runs, "workers": workers}


def run_detail(store: Store, run_id: str) -> dict[str, Any]:
    """One run: its counters, its entities with theirs, a letter for each member's state, and the first that failed.

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
    states = "".join(LETTERS[state] for state in store.states(run_id))
    failed = [match.start() for match in islice(re.finditer(LETTERS[State.FAILED], states), FAILURES)]
    return {
        "status": store.status(run_id).model_dump(mode="json"),
        "entities": entities,
        "states": states,
        "failures": [
            {"index": index, "name": store.members(run_id, index, index + 1)[0].name, "reason": cause(attempt.reason)}
            for index, attempt in zip(failed, store.attempts(run_id, failed), strict=True)
        ],
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
        text = read_end(path, LOG_TAIL)
    except OSError as error:
        text = f"{error.strerror}: {path} (the member ran on {attempt.node or 'no node yet'})"
    return {"name": member.name, "path": str(path), "reason": cause(attempt.reason), "text": text}


def databases(
    store: Store, others: Iterable[DatabaseAddressRecord] = (), *, commands: bool = False
) -> list[dict[str, Any]]:
    """Every running database of the experiments that have runs: memory, clients, inference workers, its models' calls.

    Parameters:
        others: databases that no experiment has started.
        commands: whether to tell the latencies of the AI commands as well.
    """
    experiments: dict[str, str] = {}
    for run_id in store.runs():
        with suppress(RunNotFoundError):  # it expired between the two questions
            run = store.run(run_id)
            experiments[run.path] = run.experiment
    found = [(name, each) for path, name in sorted(experiments.items()) for each in store.databases(path).values()]
    return [
        {"experiment": name, "identifier": address.identifier, **_database(address, commands)}
        for name, address in [*found, *(("", each) for each in others)]
    ]


def _database(address: DatabaseAddressRecord, commands: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"addresses": list(address.addresses), "up": True, **dict.fromkeys(_FIGURES, 0)}
    shown |= {"assets": [], "commands": []}
    for where in address.addresses:
        try:
            with _client(where, address) as client:
                facts: dict[str, Any] = client.info("everything")
                for name, field in _FIGURES.items():
                    shown[name] += facts.get(field, 0)
                shown["assets"] += [{"shard": where, **asset} for asset in _assets(client)]
                if commands:
                    shown["commands"] += [{"shard": where, **each} for each in _latencies(client, facts)]
        except (redis.RedisError, OSError) as error:
            shown["up"] = False
            shown["error"] = f"{where}: {error}"
    return shown


def _latencies(client: redis.Redis, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Calls, seconds and the histogram of each AI command: cumulative counts by upper bound in seconds.

    A server older than Redis 7 keeps no histograms, so there is nothing to tell.
    """
    ask: Any = client.execute_command
    try:
        reply = ask("LATENCY", "HISTOGRAM")
    except redis.ResponseError:
        return []
    found = []
    for name, told in zip(reply[::2], reply[1::2], strict=True):
        command = _plain(name)
        if not command.startswith("AI.") or command.startswith("AI._"):
            continue
        histogram = dict(zip(told[::2], told[1::2], strict=True))
        pairs = histogram[b"histogram_usec"]
        found.append(
            {
                "command": command,
                "calls": histogram[b"calls"],
                "seconds": facts.get(f"cmdstat_{command}", {}).get("usec", 0) / 1e6,
                "buckets": [(bound / 1e6, count) for bound, count in zip(pairs[::2], pairs[1::2], strict=True)],
            }
        )
    return found


def _client(server: str, address: DatabaseAddressRecord) -> redis.Redis:
    url = server if server.startswith("unix://") else f"redis://{server}"
    return redis.Redis.from_url(
        url,
        username=address.user or None,
        password=address.password,
        protocol=2,
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
    )


def _assets(client: redis.Redis) -> list[dict[str, Any]]:
    """Every model and script: calls, errors, samples, time in the backend (seconds), batches, what waits, latencies (seconds)."""
    ask: Any = client.execute_command
    return [
        {
            "name": figures.name,
            "type": figures.type,
            "backend": figures.backend,
            "device": figures.device,
            "calls": figures.calls,
            "errors": figures.errors,
            "samples": figures.samples,
            "seconds": figures.seconds,
            "batches": figures.batches,
            "waiting": figures.waiting,
            "p50": figures.latency(0.5),
            "p99": figures.latency(0.99),
            "latencies": {end / 1e6: count for end, count in figures.latencies.items()},
        }
        for figures in read_figures(ask, asset_keys(ask), redis.ResponseError)
    ]


def _plain(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
