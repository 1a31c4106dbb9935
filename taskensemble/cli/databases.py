"""`db`: databases that are started, looked at and stopped by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import typer

from taskensemble.cli.output import JSON_OPTION, print_json, table
from taskensemble.errors import DatabaseError

if TYPE_CHECKING:
    from taskensemble.database.connection import Administration
    from taskensemble.database.figures import Figures
    from taskensemble.engine.records import DatabaseAddressRecord

app = typer.Typer(help="Start, look at and stop databases.", no_args_is_help=True)

NAME_OPTION = typer.Option("orchestrator", "--name", "-n", help="Identifier of the database.")
FOLDER_OPTION = typer.Option(Path(), "--path", "-p", help="Folder of its files.", file_okay=False)
INTERFACE_OPTION = typer.Option(["lo"], help="Network interface or address to listen on; may be repeated.")
DATABASE_ARGUMENT = typer.Argument(
    Path(), help="Folder of a database, or its address (host:port, redis://…, unix://…), or the file of its record."
)
RECORD = "taskensemble_db.json"
"""What `entity.Database.checkpoint_file` is called as well."""


def register(main: typer.Typer) -> None:
    """Add the commands of this file to `main`."""
    main.add_typer(app, name="db")


@app.command()
def start(
    *,
    path: Path = FOLDER_OPTION,
    name: str = NAME_OPTION,
    port: int = typer.Option(6379, min=0, max=65535, help="Port of the first server; 0: any free one."),
    interface: list[str] = INTERFACE_OPTION,
    shards: int = typer.Option(1, min=1, help="Servers; three and more make a cluster."),
    maxmemory: str | None = typer.Option(None, help="Memory limit of each server, such as 3gb."),
    foreground: bool = typer.Option(False, help="Run until this command is interrupted; else it goes on without it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Start a database with the AI module, and the supervisor of its inference workers."""
    from taskensemble.database import DatabaseOptions, start_database, stop_database, write_record

    folder = path.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"maxmemory": maxmemory} if maxmemory else {}
    record = start_database(
        DatabaseOptions(
            name=name,
            folder=folder,
            identifier=name,
            port=port,
            interfaces=tuple(interface),
            shards=shards,
            settings=settings,
            owner=os.getpid() if foreground else 0,
        )
    )
    write_record(folder / RECORD, record)
    if as_json:
        print_json(record)
    else:
        typer.echo(f"The database {name} listens on {', '.join(record.addresses)}; its record is {folder / RECORD}.")
    if foreground:
        try:
            while True:
                time.sleep(3600)
        finally:
            stop_database(record)
            (folder / RECORD).unlink(missing_ok=True)


@app.command()
def stop(database: Path = DATABASE_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Stop a database that was started on this machine, with its supervisor and inference workers."""
    from taskensemble.database import stop_database

    record = _record(database)
    if record.external:
        raise DatabaseError(f"{database}: its processes are unknown; name the folder that it was started in.")
    stop_database(record)
    file = database / RECORD if database.is_dir() else database
    file.unlink(missing_ok=True)
    if as_json:
        print_json({"identifier": record.identifier, "addresses": record.addresses, "stopped": True})
    else:
        typer.echo(f"The database at {', '.join(record.addresses)} has stopped.")


@app.command()
def status(database: Path = DATABASE_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Say whether every server of a database answers; ends with 1 when one does not."""
    from taskensemble.database import is_alive

    record = _record(database)
    states = [
        (address, "Running" if is_alive(record.model_copy(update={"addresses": (address,)})) else "Failed")
        for address in record.addresses
    ]
    if as_json:
        print_json({"identifier": record.identifier, "servers": dict(states)})
    else:
        table(("Server", "State"), states)
    if any(state != "Running" for _, state in states):
        raise typer.Exit(1)


@app.command()
def info(database: Path = DATABASE_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Print version, memory, clients and keys of each server."""
    facts = [_facts(address, client) for address, client in _clients(_record(database))]
    if as_json:
        print_json(facts)
        return
    table(_SERVER_COLUMNS, (tuple(fact[name] for name in _SERVER_FACTS) for fact in facts))


@app.command()
def models(database: Path = DATABASE_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """List the ML models and scripts: how often they ran, in what batches, how long their callers waited."""
    found = [
        _row(address, figures)
        for address, client in _clients(_record(database))
        for figures in _models(client).values()
    ]
    if as_json:
        print_json(found)
        return
    table(_MODEL_COLUMNS, (_cells(row) for row in found))


@app.command()
def top(
    database: Path = DATABASE_ARGUMENT,
    interval: float = typer.Option(1.0, min=0.1, help="Seconds between two pictures."),
    count: int = typer.Option(0, min=0, help="Pictures to show; 0: until interrupted."),
) -> None:
    """Show commands a second, memory, and what each model did since the last picture, again and again.

    p50 and p99 are of the requests that were answered in between, from their arrival to their outputs.
    """
    record = _record(database)
    before = {address: _models(client) for address, client in _clients(record)}
    shown = 0
    while True:
        time.sleep(interval)
        servers, rows = [], []
        for address, client in _clients(record):
            facts = _facts(address, client)
            now = _models(client, before.get(address), facts)
            servers.append(tuple(facts[name] for name in _SERVER_FACTS))
            for key, figures in now.items():
                row = _row(address, figures.since(before.get(address, {}).get(key)))
                rows.append((f"{row['calls'] / interval:.1f}", *_cells(row)))
            before[address] = now
        click.clear()
        table(_SERVER_COLUMNS, servers)
        typer.echo()
        table(("Calls/s", *_MODEL_COLUMNS), rows)
        shown += 1
        if count and shown >= count:
            return


def _record(database: Path) -> DatabaseAddressRecord:
    """The database that an argument means.

    Raises:
        DatabaseError: there is none
    """
    from taskensemble.database import attach_database, read_record

    if database.is_dir():
        candidates = [database / RECORD, *sorted(database.glob(f"*/{RECORD}"))]
        known = [file for file in candidates if file.is_file()]
        if len(known) == 1:
            return read_record(known[0])
        if not known:
            raise DatabaseError(
                f"No database runs in {database.resolve()}: name its folder, the experiment's, or its address (host:port)."
            )
        folders = ", ".join(str(file.parent) for file in known)
        raise DatabaseError(
            f"{database.resolve()} has several databases: name one's folder ({folders}) or its address."
        )
    if database.is_file():
        return read_record(database)
    # A Path has made one slash of the two in redis://host.
    return attach_database(str(database).replace(":/", "://", 1) if ":/" in str(database) else str(database))


def _clients(record: DatabaseAddressRecord) -> Iterator[tuple[str, Administration]]:
    from taskensemble.database.connection import Refused, connected, login

    for address in record.addresses:
        try:
            with connected(address, login(record)) as client:
                yield address, client
        except Refused as error:
            raise DatabaseError(f"The database at {address} does not answer: {error}") from error


def _facts(address: str, client: Administration) -> dict[str, Any]:
    known = client.info("everything")
    return {
        "server": address,
        "version": known.get("valkey_version") or known.get("redis_version"),
        "memory": known["used_memory_human"],
        "clients": int(known["connected_clients"]),
        "keys": client.ask("DBSIZE"),
        "commands_per_second": int(known["instantaneous_ops_per_sec"]),
        "up_seconds": int(known["uptime_in_seconds"]),
        "assets": int(known.get("ai_stored_models_and_scripts", -1)),
    }


def _models(
    client: Administration, earlier: Mapping[bytes, Figures] | None = None, facts: Mapping[str, Any] | None = None
) -> dict[bytes, Figures]:
    """The figures of a server's models and scripts. To find their keys the server walks the keyspace: where an earlier look
    found as many as the server says it has now, its keys are asked for again."""
    from taskensemble.ai.resp import ReplyError
    from taskensemble.database.figures import asset_keys, read_figures

    known = list(earlier or ())
    found = read_figures(client.ask, known, ReplyError)
    if len(found) != len(known) or facts is None or facts["assets"] != len(known):
        known = asset_keys(client.ask)
        found = read_figures(client.ask, known, ReplyError)
    return {figures.name.encode(): figures for figures in found}


def _row(address: str, figures: Figures) -> dict[str, Any]:
    median, most = figures.latency(0.5), figures.latency(0.99)
    return {
        "server": address,
        "name": figures.name,
        "type": figures.type,
        "backend": figures.backend,
        "device": figures.device,
        "calls": figures.calls,
        "errors": figures.errors,
        "batches": figures.batches,
        "mean_batch": figures.mean_batch,
        "largest_batch": figures.largest_batch,
        "waiting": figures.waiting,
        "p50_ms": None if median is None else median * 1000,
        "p99_ms": None if most is None else most * 1000,
        "mean_ms": figures.seconds / figures.calls * 1000 if figures.calls else None,
    }


_SERVER_COLUMNS = ("Server", "Version", "Memory", "Clients", "Keys", "Commands/s", "Up")
_SERVER_FACTS = ("server", "version", "memory", "clients", "keys", "commands_per_second", "up_seconds")
_MODEL_COLUMNS = (
    "Server", "Name", "Type", "Backend", "Device", "Calls", "Errors", "Batches", "Requests/batch", "Largest", "Waiting",
    "p50 ms", "p99 ms", "Mean ms",
)  # fmt: skip


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple("" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row.values())
