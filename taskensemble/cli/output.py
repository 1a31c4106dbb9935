"""What commands print: tables for people, JSON for programs, complaints on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from taskensemble.errors import ControlPlaneError, InputError, RunNotFoundError
from taskensemble.results import finite

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


MANY = 1000
"""Rows from which on a table is printed line by line: laying out colours for 100,000 takes a minute."""


FOLDED = 24
"""Characters from which on a cell may be continued on the next line."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table; words that name a state are coloured on a terminal. Nothing is cut off, and short cells are not broken."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty() or len(cells) > MANY:
        _plain_table(columns, cells, title)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if sum(min(width, FOLDED) for width in widths) + 2 * len(widths) > console.width:
        _plain_table(columns, cells, title)  # which the terminal breaks between its lines, not inside of words
        return
    grid = Table(title=title, box=None, header_style="bold", title_justify="left", pad_edge=False)
    for column, width in zip(columns, widths, strict=True):
        grid.add_column(column, overflow="fold", no_wrap=width <= FOLDED)
    for row in cells:
        grid.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console.print(grid)


def _plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]], title: str | None) -> None:
    lines = [columns, *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    heading = [title] if title else []
    printed = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    sys.stdout.write("".join(f"{line}\n" for line in (*heading, *printed)))


def print_json(value: Any) -> None:
    """Print `value`, records included, as indented JSON; null stands for what JSON has no word for, NaN and infinity."""
    typer.echo(json.dumps(finite(value), indent=2, default=_plain))


def complain(text: str) -> None:
    """One sentence on standard error, red on a terminal unless NO_COLOR is set (https://no-color.org)."""
    typer.secho(text, err=True, fg="red" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else None)


def exit_code(error: Exception) -> int:
    """The documented exit code of an error that is raised on purpose."""
    if isinstance(error, RunNotFoundError):
        return 4
    if isinstance(error, ControlPlaneError):
        return 3
    return 2 if isinstance(error, (InputError, FileNotFoundError, FileExistsError)) else 1


def clock(moment: float | None) -> str:
    """A Unix time as local date and time; empty for None."""
    return "" if moment is None else datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
