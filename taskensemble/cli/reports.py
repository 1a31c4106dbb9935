"""`report`: a run as one page."""

from __future__ import annotations

from pathlib import Path

import typer

from taskensemble.cli.output import JSON_OPTION, print_json
from taskensemble.cli.plane import BROKER_OPTION, PATH_OPTION, STORE_OPTION, opened
from taskensemble.cli.runs import RUN_ARGUMENT, pick

OUTPUT_OPTION = typer.Option(
    None, "--output", "-o", help="Folder for the files; default: report-<run> in the current one.", file_okay=False
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(report)


def report(
    run: str = RUN_ARGUMENT,
    path: Path = PATH_OPTION,
    broker: str | None = BROKER_OPTION,
    store: str | None = STORE_OPTION,
    output: Path | None = OUTPUT_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Write a run's report: an HTML page, pictures, and the facts as JSON.

    With --json: print the facts and write nothing.
    """
    from taskensemble.report import gather, write

    with opened(path, broker, store, "viewer") as control:
        run_id = pick(control, run).run_id
        if as_json:
            print_json(gather(control.store, run_id).plain())
            return
        page = write(control.store, run_id, output or Path(f"report-{run_id}"))
    typer.echo(page.resolve())
