"""What commands print: tables for people, JSON for programs, complaints on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

COLOURS = {
    "Completed": "green",
    "Failed": "red",
    "Cancelled": "yellow",
    "Running": "cyan",
    "Queued": "bright_black",
    "ok": "green",
    "warning": "yellow",
    "missing": "red",
}

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table; words that name a state are coloured on a terminal. Nothing is cut off where no terminal is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    grid = Table(title=title, box=None, header_style="bold", title_justify="left", pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(cell), style=COLOURS.get(str(cell), "")) for cell in row))
    console.print(grid)


def print_json(value: Any) -> None:
    """Print `value`, records included, as indented JSON."""
    typer.echo(json.dumps(value, indent=2, default=_plain))


def complain(text: str) -> None:
    """One sentence on standard error."""
    typer.secho(text, err=True, fg="red" if sys.stderr.isatty() else None)


def clock(moment: float | None) -> str:
    """A Unix time as local date and time; empty for None."""
    return "" if moment is None else datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
