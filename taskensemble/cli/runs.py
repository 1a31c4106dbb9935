"""`status`, `logs`, `stop`, `resume`, `results`: runs, from any process."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from taskensemble.cli.output import JSON_OPTION, clock, complain, print_json, table
from taskensemble.cli.plane import BROKER_OPTION, PATH_OPTION, STORE_OPTION, opened
from taskensemble.engine.records import RunStatus, State
from taskensemble.errors import InputError, RecordSchemaError, RunNotFoundError
from taskensemble.generation.reading import open_plain
from taskensemble.handle import RunHandle, cause, find_member, find_members
from taskensemble.launch.control import ControlPlane
from taskensemble.progress import duration, progress

MEMBER_OPTION = typer.Option([], "--member", help="Stop this member alone, by name or index; may be repeated.")
RUN_ARGUMENT = typer.Argument(help="The run's id, the beginning of it, or `last`.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    for command in (status, logs, stop, resume, results):
        app.command()(command)


def status(
    *,
    run: str | None = typer.Argument(None, help="The run's id, the beginning of it, or `last`; without it: all runs."),
    path: Path = PATH_OPTION,
    broker: str | None = BROKER_OPTION,
    store: str | None = STORE_OPTION,
    members: bool = typer.Option(False, "--members", "-m", help="List every member; else the failed ones."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show all runs, or one with its entities and failed members.

    Ends with 1 when that one failed or has failed members.
    """
    with opened(path, broker, store, "viewer") as control:
        if run is None:
            _show_runs(control, as_json)
            return
        handle = pick(control, run)
        state = handle.status()
        _show_run(handle, state, members, as_json)
        if state.failed or state.state is State.FAILED:
            raise typer.Exit(1)


def logs(
    *,
    run: str = RUN_ARGUMENT,
    member: str | None = typer.Argument(
        None, help="The member's name or index; may be left out where the run has only one."
    ),
    path: Path = PATH_OPTION,
    broker: str | None = BROKER_OPTION,
    store: str | None = STORE_OPTION,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on until the member has ended."),
    error: bool = typer.Option(
        False, "--error", "-e", help="What it wrote to standard error instead of standard output."
    ),
) -> None:
    """Print what a member wrote."""
    with opened(path, broker, store, "viewer") as control:
        handle = pick(control, run)
        record, attempt = find_member(handle, _only_member(handle) if member is None else member)
        log = handle.member_path(record) / f"{record.name}.{'err' if error else 'out'}"
        position = 0
        while True:
            over = attempt.state.final or not follow
            position = _copy(log, position)
            if over:
                break
            time.sleep(0.2)
            attempt = control.store.attempts(handle.run_id, [record.index])[0]
        if not log.exists():
            where = f" on {attempt.node}" if attempt.node else ""
            complain(
                f"{log} does not exist here: {record.name} is {str(attempt.state).lower()}{where}. {attempt.reason}".rstrip()
            )
            raise typer.Exit(4)


def _only_member(handle: RunHandle) -> str:
    """The index of the one member that a run has.

    Raises:
        InputError: it has several; the message names those that a reader probably wants
    """
    if handle.record.size == 1:
        return "0"
    members = handle.members()
    failed = [member.name for member, attempt in members if attempt.state is State.FAILED]
    names = failed or [member.name for member, _ in members]
    raise InputError(
        f"{handle.run_id} has {len(members)} members: name one, such as {'the failed ' if failed else ''}"
        f"{', '.join(names[:3])}."
    )


def stop(
    run: str = RUN_ARGUMENT,
    path: Path = PATH_OPTION,
    broker: str | None = BROKER_OPTION,
    store: str | None = STORE_OPTION,
    member: list[str] = MEMBER_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Stop a run or some of its members.

    What waits is cancelled; what runs gets SIGTERM and, after the grace period, SIGKILL.
    """
    with opened(path, broker, store) as control:
        handle = pick(control, run)
        before = handle.status()
        over = before.state.final
        if member and not over:
            handle.stop_members(member, reason="stopped from the command line")
            if as_json:
                print_json(handle.status())
            else:
                for record, attempt in find_members(handle, member):
                    typer.echo(f"{record.name} is {str(attempt.state).lower()}.")
            return
        after = before if over else handle.stop(reason="stopped from the command line")
        if as_json:
            print_json(after)
        elif over:
            typer.echo(f"{handle.run_id} is {str(before.state).lower()} already.")
        else:
            told = f"{after.completed} completed, {after.failed} failed, {after.cancelled} cancelled."
            typer.echo(f"{handle.run_id} has stopped: {told}")


def resume(
    *,
    run: str = RUN_ARGUMENT,
    path: Path = PATH_OPTION,
    broker: str | None = BROKER_OPTION,
    store: str | None = STORE_OPTION,
    slots: int | None = typer.Option(
        None, min=1, help="Members at a time of a local worker, where one has to be started."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Show no progress."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Run again what of a run has not completed.

    What failed, was cancelled or never ran becomes a run of its own; this waits for it.
    """
    from taskensemble.resume import resumed

    with opened(path, broker, store) as control:
        handle = resumed(control, pick(control, run).run_id)
        if handle is None:
            if as_json:
                print_json(None)
            else:
                typer.echo("Every member has completed: nothing is left to run.")
            return
        control.start_worker(slots, allocation=handle.record.needs_allocation)
        if not as_json:
            size = handle.record.size
            typer.echo(f"{handle.run_id}: {size} member{'' if size == 1 else 's'} of {handle.record.parent}")
        end = handle.wait(progress=progress(quiet or as_json))
        if as_json:
            print_json({**end.model_dump(mode="json"), "parent": handle.record.parent})
        if end.failed or end.state is not State.COMPLETED:
            raise typer.Exit(1)


def results(
    *,
    run: str = RUN_ARGUMENT,
    path: Path = PATH_OPTION,
    broker: str | None = BROKER_OPTION,
    store: str | None = STORE_OPTION,
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Print a row for each member, with what it left in result.json."""
    from taskensemble.results import flat

    with opened(path, broker, store, "viewer") as control:
        rows = pick(control, run).results()
    if as_json:
        print_json(rows)
        return
    plain = [flat(row) for row in rows]
    columns = list(dict.fromkeys(key for row in plain for key in row))
    if as_csv:
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(plain)
        return
    for row in plain:
        row["reason"] = cause(row["reason"])
    asked = [column for column in columns if column.startswith(("params.", "result."))]
    about = [column for column in ("seconds", "node", "attempt", "returncode", "reason") if any(_told(plain, column))]
    shown = ["name", "state", *asked, *about]
    table(shown, ([_cell(row.get(column)) for column in shown] for row in plain))


def pick(control: ControlPlane, run: str) -> RunHandle:
    """The run that an argument means: its id, a unique beginning of it, or `last`.

    Raises:
        RunNotFoundError: none, or several
    """
    known = control.store.runs()
    if run == "last" and known:
        newest = max((control.store.status(each) for each in known), key=lambda status: status.created)
        return RunHandle.open(control, newest.run_id)
    # An id is `<experiment>-<token>`: the beginning of either will do.
    matching = (
        [each for each in known if each == run]
        or [each for each in known if each.rpartition("-")[0] == run]
        or [each for each in known if each.startswith(run) or each.rpartition("-")[2].startswith(run)]
    )
    if len(matching) != 1:
        listed = ", ".join(sorted(matching or known)[:5]) or "none at all"
        what = f"{run!r} may be several runs:" if matching else f"There is no run {run!r} here; known are"
        raise RunNotFoundError(f"{what} {listed}.")
    return RunHandle.open(control, matching[0])


def _show_runs(control: ControlPlane, as_json: bool) -> None:
    states = sorted((control.store.status(run) for run in control.store.runs()), key=lambda state: state.created)
    if as_json:
        print_json(states)
        return
    if not states:
        typer.echo("No run yet.")
        return
    table(
        ("Run", "State", "Members", "Completed", "Failed", "Cancelled", "Running", "Queued", "Started", "Took"),
        (
            (
                state.run_id,
                state.state,
                state.size,
                state.completed,
                state.failed,
                state.cancelled,
                state.running,
                state.queued,
                clock(state.created),
                _took(state),
            )
            for state in states
        ),
    )
    for state in states:
        if not state.state.final and state.queued:
            with suppress(RunNotFoundError, RecordSchemaError):
                entities = control.store.run(state.run_id).entities
                for index, what in control.store.waits(state.run_id).items():
                    typer.echo(f"{state.run_id}: {entities[index].name} {what}.")


def _show_run(handle: RunHandle, state: RunStatus, everybody: bool, as_json: bool) -> None:
    listed = handle.members() if everybody else handle.failed_members()
    waits = {} if state.state.final else handle.waits()
    if as_json:
        entities: list[dict[str, Any]] = [
            {
                "name": entity.name,
                "kind": entity.kind,
                "size": entity.size,
                "state": str(entity_state),
                "waits": waits.get(entity.index, ""),
            }
            for entity, entity_state in handle.states()
        ]
        shown = [
            {
                "name": member.name,
                "params": member.params,
                "path": str(handle.member_path(member)),
                **attempt.model_dump(mode="json"),
            }
            for member, attempt in listed
        ]
        print_json({**state.model_dump(mode="json"), "entities": entities, "members": shown})
        return
    typer.echo(f"{handle.run_id}: {state.state}{', ' + state.reason if state.reason else ''}")
    table(
        ("Entity", "Kind", "Members", "State"),
        ((entity.name, entity.kind, entity.size, entity_state) for entity, entity_state in handle.states()),
    )
    for index, what in waits.items():
        typer.echo(f"{handle.record.entities[index].name} {what}.")
    if listed:
        typer.echo()
        table(
            ("Member", "State", "Attempt", "Code", "Node", "Reason", "Log"),
            (
                (
                    member.name,
                    attempt.state,
                    attempt.attempt,
                    "" if attempt.returncode is None else attempt.returncode,
                    attempt.node,
                    cause(attempt.reason),
                    handle.member_path(member) / f"{member.name}.err",
                )
                for member, attempt in listed
            ),
        )


def _took(state: RunStatus) -> str:
    return duration((state.ended or time.time()) - state.started) if state.started is not None else ""


def _told(rows: list[dict[str, Any]], column: str) -> Iterator[bool]:
    """Whether a column tells something of each row: what nobody has, or a first attempt, is not worth a column."""
    return (row.get(column) not in (None, "", 1 if column == "attempt" else 0) for row in rows)


def _copy(log: Path, position: int) -> int:
    """Write what follows `position` of a file to standard output; the position after it."""
    try:
        with open_plain(log) as file:
            # A retry begins a new file: what it writes is read from its start.
            if file.seek(0, 2) < position:
                position = 0
            file.seek(position)
            while block := file.read(1 << 16):
                sys.stdout.buffer.write(block)
                position += len(block)
    except FileNotFoundError:
        return position
    sys.stdout.buffer.flush()
    return position


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
