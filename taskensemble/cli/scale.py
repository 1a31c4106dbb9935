"""`scale`: allocations that come and go with what waits."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from taskensemble.cli.output import complain
from taskensemble.errors import AllocationError, InputError
from taskensemble.launch import control as plane

KEYS = {"launcher", "nodes", "time", "queue", "account", "batch_args", "preamble", "tags"}

BATCH_OPTION = typer.Option(
    ..., "--batch", help="TOML file that says what an allocation asks for.", exists=True, dir_okay=False
)
FOLDER_OPTION = typer.Option(
    Path(),
    "--path",
    "-p",
    help="Folder of the control plane (`taskensemble up`), and of the jobs' files.",
    file_okay=False,
)


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command()(scale)


def scale(
    batch: Path = BATCH_OPTION,
    minimum: int = typer.Option(0, "--min", min=0, help="Allocations at least."),
    maximum: int = typer.Option(10, "--max", min=1, help="Allocations at most."),
    idle: float = typer.Option(
        60.0, min=1, help="Seconds without work after which an allocation above the minimum ends."
    ),
    interval: float = typer.Option(2.0, min=0.1, help="Seconds between two looks."),
    folder: Path = FOLDER_OPTION,
    once: bool = typer.Option(False, "--once", help="Look once and end: for cron or a Celery beat task."),
) -> None:
    """Ask a scheduler for allocations while members wait.

    Idle ones are let go. Ctrl-C leaves the allocations.
    """
    from taskensemble.launch.scale import Scaler

    if minimum > maximum:
        raise InputError(f"--min {minimum} is more than --max {maximum}")
    described = read_description(batch)
    # The jobs it asks for hold workers.
    control = plane.awaited(folder, wait=False, user="worker")
    host = urlsplit(control.broker_url).hostname or ""
    if host == "localhost" or host.startswith("127."):
        complain(
            f"The control plane listens on {host} alone: allocations on other nodes cannot reach it. Give its network: "
            "`taskensemble down`, then `taskensemble up --no-workers --bind ib0`."
        )
    scaler = Scaler(
        folder=folder.resolve(),
        broker_url=control.broker_url,
        store_url=control.store_url,
        batch=described["record"],
        minimum=minimum,
        maximum=maximum,
        idle=idle,
        tags=tuple(described["tags"]),
        tell=typer.echo,
    )
    try:
        while True:
            try:
                scaler.step()
            except AllocationError as error:
                typer.echo(str(error), err=True)
                if once:
                    raise
            if once:
                return
            time.sleep(interval)
    finally:
        scaler.close()


def read_description(path: Path) -> dict[str, Any]:
    """The batch record and the tags that a TOML file describes.

    Raises:
        InputError: it is no TOML, or has an unknown key.
    """
    from taskensemble.settings import create_batch_settings

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"--batch {path}: {error}") from error
    unknown = sorted(set(table) - KEYS)
    if unknown:
        raise InputError(f"--batch {path}: unknown key {unknown[0]!r}; use {', '.join(sorted(KEYS))}")
    arguments = {name: None if value is True else str(value) for name, value in table.get("batch_args", {}).items()}
    settings = create_batch_settings(
        table.get("launcher", "auto"),
        nodes=table.get("nodes", 1),
        time=table.get("time", ""),
        queue=table.get("queue"),
        account=table.get("account"),
        batch_args=arguments,
    )
    settings.add_preamble(list(table.get("preamble", [])))
    return {"record": settings.record(), "tags": list(table.get("tags", []))}
