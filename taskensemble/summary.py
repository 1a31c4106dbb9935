"""What is printed about starts: before one, after one, and about all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate, tabulate_formats

from taskensemble.engine.records import AssetRecord, RunRecord, State
from taskensemble.errors import InputError
from taskensemble.handle import cause
from taskensemble.progress import duration

if TYPE_CHECKING:
    from taskensemble.databases import Databases
    from taskensemble.entity import Database
    from taskensemble.experiment import Experiment
    from taskensemble.handle import RunHandle
    from taskensemble.history import History

COLUMNS = ("Name", "Entity-Type", "JobID", "RunID", "Time", "Status", "Returncode")
SHOWN = 10
"""Failed members that a run's summary lists; the command line lists all."""


def launch_summary(experiment: Experiment, run: RunRecord, databases: Sequence[Database]) -> str:
    """What a start is about to bring up."""
    lines = [
        "=== Launch Summary ===",
        f"Experiment: {experiment.name}",
        f"Experiment Path: {experiment.exp_path}",
        f"Launcher: {experiment.launcher}",
    ]
    if run.entities:
        lines.append(f"Run: {run.run_id}")
    for database in databases:
        lines += ["", f"=== Database: {database.db_identifier} ===", f"Servers: {database.num_shards}"]
    for entity in run.entities:
        lines += ["", f"=== {entity.kind}: {entity.name} ===", f"Path: {entity.path}"]
        if entity.kind == "Ensemble":
            lines.append(f"Members: {entity.size}")
        if entity.after:
            lines.append(f"After: {', '.join(run.entities[other].name for other in entity.after)}")
    assets = assets_of(run)
    if assets:
        lines += ["", "=== ML assets ===", *(describe(asset) for asset in assets)]
    return "\n".join(lines) + "\n"


def run_summary(handle: RunHandle) -> str:
    """What became of a run: members by state, ML assets, and of the failed members the first with their logs."""
    status = handle.status()
    took = "" if status.started is None or status.ended is None else f", took {duration(status.ended - status.started)}"
    counts = ", ".join(
        f"{count} {word}"
        for count, word in (
            (status.completed, "completed"),
            (status.failed, "failed"),
            (status.cancelled, "cancelled"),
            (status.running, "running"),
            (status.queued, "queued"),
        )
        if count
    )
    lines = [
        "=== Run Summary ===",
        f"{handle.run_id}: {status.state}{took}",
        f"{status.size} member{'' if status.size == 1 else 's'}: {counts}",
    ]
    if status.reason:
        lines.append(f"Reason: {status.reason}")
    assets = assets_of(handle.record)
    if assets:
        lines.append("ML assets, loaded and checked before the first member started:")
        lines += [f"  {describe(asset)}" for asset in assets]
    if status.failed:
        failed = [(member, attempt) for member, attempt in handle.members() if attempt.state is State.FAILED]
        rows = [
            (
                member.name,
                attempt.returncode,
                attempt.attempt,
                attempt.node,
                cause(attempt.reason),
                handle.member_path(member) / f"{member.name}.err",
            )
            for member, attempt in failed[:SHOWN]
        ]
        lines += ["", tabulate(rows, headers=("Failed", "Returncode", "Attempts", "Node", "Reason", "Log"))]
        if len(failed) > SHOWN:
            lines.append(f"… and {len(failed) - SHOWN} more: taskensemble status {handle.run_id}")
    return "\n".join(lines) + "\n"


def experiment_summary(history: History, databases: Databases, style: str) -> str:
    """A row for each run of each model and member, in the order of the starts; then the databases.

    Raises:
        InputError: an unknown table format
    """
    if style not in tabulate_formats:
        raise InputError(
            f"style={style!r} is no table format; use github, plain, simple, grid, html or another of tabulate's."
        )
    rows: list[tuple[object, ...]] = []
    now = time.time()
    for name in history.names():
        for number, place in enumerate(history.starts(name)):
            for member, attempt in place.handle.members(place.entity):
                seconds = 0.0 if attempt.started is None else (attempt.ended or now) - attempt.started
                job = place.handle.run_id
                rows.append((member.name, "Model", job, number, f"{seconds:.4f}", attempt.state, attempt.returncode))
    rows += databases.rows()
    return str(
        tabulate(rows, headers=COLUMNS, tablefmt=style, showindex=True, missingval="None", disable_numparse=True)
    )


def assets_of(run: RunRecord) -> list[AssetRecord]:
    """The ML assets of a run, each once."""
    return list({asset.name: asset for template in run.templates for asset in template.assets}.values())


def describe(asset: AssetRecord) -> str:
    """One line about an ML asset."""
    kind = f"{asset.backend} model" if asset.kind == "model" else "script"
    devices = asset.device if asset.devices_per_node == 1 else f"{asset.devices_per_node} × {asset.device}"
    return f"{asset.name}: {kind}, {devices}, {asset.size} bytes"
