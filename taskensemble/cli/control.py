"""`up`, `down`, `worker`, `inference-worker`: a control plane and workers that go on without a driver."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from taskensemble.cli.databases import RECORD as DATABASE_RECORD
from taskensemble.cli.output import JSON_OPTION, complain, print_json
from taskensemble.errors import ControlPlaneError, DatabaseError, DatabaseFilesError, UnsupportedError
from taskensemble.launch import control as planes
from taskensemble.launch import embedded, local, processes

if TYPE_CHECKING:
    from taskensemble.engine.records import DatabaseAddressRecord

PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

FOLDER_OPTION = typer.Option(
    Path(), "--path", "-p", help="Folder of the control plane; drivers in it and below it use it.", file_okay=False
)


WAIT_OPTION = typer.Option(False, "--wait", help="Wait until there is a control plane.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(up)
    app.command()(down)
    app.command(context_settings=PASS_THROUGH)(worker)
    app.command("inference-worker", context_settings=PASS_THROUGH)(inference_worker)


def up(
    *,
    path: Path = FOLDER_OPTION,
    slots: int | None = typer.Option(
        None, min=1, help="Members at a time of the local worker; default: as many as cores."
    ),
    workers: bool = typer.Option(True, help="Start a local worker as well."),
    bind: str = typer.Option(
        "127.0.0.1", help="Address or network (ib0) to listen on besides 127.0.0.1, for other nodes."
    ),
    acl: bool = typer.Option(
        False, "--acl", help="Users driver, worker and viewer with the least each needs; passwords are printed once."
    ),
    tls: bool = typer.Option(False, "--tls", help="Refused, with what to use instead: the embedded server has no TLS."),
    foreground: bool = typer.Option(False, help="The control plane alone, until this command is interrupted."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Start a control plane and a local worker that stay.

    Runs go on without their drivers, until `taskensemble down`.
    """
    if tls:
        raise UnsupportedError(
            "--tls: the embedded server has no TLS. Use a Redis or Valkey server that has it, "
            "TASKENSEMBLE_BROKER_URL=rediss://…?ssl_ca_certs=/path/ca.crt, or keep it on loopback or a private network."
        )
    address = _listening_address(bind)
    folder = path.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    server = _running(folder, foreground=foreground, acl=acl)
    earlier = embedded.read(folder)
    is_new = acl and not (earlier and earlier.users)
    if server is None:
        server = embedded.start(folder, bind=address, kept=True, tied=foreground, users=acl)
    urls = {user: server.url_for(user) for user in server.users} if is_new else {}
    if not as_json:
        for user, url in urls.items():
            typer.echo(f"{user}: {url}")
    if foreground:
        typer.echo(f"The control plane of {folder} listens on {server.host}:{server.port} until this command ends.")
        _until_interrupted(server)
        return
    names = _kept_workers(folder, server, slots, start=workers)
    # What `worker` on another node needs; the password stays in the 0600 file.
    facts = {
        "folder": str(folder),
        "address": f"{server.host}:{server.port}",
        "pid": server.pid,
        "workers": names,
        "record": str(embedded.ControlPaths(folder).record),
        **({"users": urls} if urls else {}),
    }
    if as_json:
        print_json(facts)
        return
    typer.echo(f"Control plane  {facts['address']}, without TLS")
    typer.echo(f"Workers        {', '.join(names) or 'none'}")
    typer.echo(f"Its password   in {facts['record']}, which you alone may read")
    typer.echo(f"Drivers in {folder} and below use it. `taskensemble down` ends it.")


def _running(folder: Path, *, foreground: bool, acl: bool) -> embedded.EmbeddedServer | None:
    """The kept control plane that runs in a folder already.

    Raises:
        ControlPlaneError: it is a driver's, or is to be what it is not
    """
    server = embedded.attach(folder)
    if server is None:
        return None
    if not server.kept:
        raise ControlPlaneError(
            f"A driver (process {server.owner} on {server.node}) owns the control plane of {folder}: wait for it, or use --path."
        )
    if foreground:
        raise ControlPlaneError(f"A control plane of {folder} runs already: `taskensemble down` ends it.")
    if acl and not server.users:
        raise ControlPlaneError(
            f"--acl: the control plane of {folder} runs already, without users: `taskensemble down`, then `up --acl`."
        )
    return server


def _kept_workers(folder: Path, server: embedded.EmbeddedServer, slots: int | None, *, start: bool) -> list[str]:
    """Names of the workers that stay beside a control plane; with `start` there is at least one."""
    kept = processes.KeptProcesses(embedded.ControlPaths(folder).home / "workers.json")
    if start and not kept.living():
        name = f"{socket.gethostname()}-{os.getpid()}"
        url = server.url_for("worker")
        logs = embedded.ControlPaths(folder).workers
        started = local.start(url, url, logs, name=name, slots=slots, kept=True, cwd=folder)
        kept.add(name, started.process.pid)
    return [process.name for process in kept.living()]


def down(
    path: Path = FOLDER_OPTION,
    timeout: float = typer.Option(30.0, help="Seconds that members get to end."),
    as_json: bool = JSON_OPTION,
) -> None:
    """End what `taskensemble up` started here, and the databases that drivers have started with it on this host.

    Databases on other hosts are named, each with the command that stops it; those attached by their address are left alone.
    The records stay for the next `up`. What then goes on of a run needs its databases again: start them, then `resume`.
    """
    folder = path.resolve()
    kept = processes.KeptProcesses(embedded.ControlPaths(folder).home / "workers.json")
    for process in kept.living():
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while kept.living() and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in kept.living():
        complain(f"Worker {process.name} (pid {process.pid}) did not end within {timeout:g} s and is killed.")
        process.signal(signal.SIGKILL)
    kept.clear()
    server = embedded.attach(folder)
    ran = server is not None
    if server is None:
        # It may have been killed, and has the databases in its records: they are asked for.
        earlier = embedded.read(folder)
        if earlier is not None and earlier.kept and earlier.node == socket.gethostname():
            server = embedded.start(folder, bind=earlier.host, kept=True)
    if server is None:
        facts = {"folder": str(folder), "ended": False, "databases": []}
        _told(facts, f"No control plane runs in {folder}.", as_json)
        return
    if not server.kept:
        raise ControlPlaneError(
            f"The control plane of {folder} belongs to a driver (process {server.owner} on {server.node})."
        )
    databases = _end_databases(server.url, timeout)
    embedded.stop(server)
    last = f"The control plane of {folder} has ended." if ran else f"No control plane runs in {folder}."
    lines = [*map(_database_line, databases), last]
    _told({"folder": str(folder), "ended": ran, "databases": databases}, "\n".join(lines), as_json)
    if any("error" in database for database in databases):
        raise typer.Exit(1)


def _end_databases(store_url: str, timeout: float) -> list[dict[str, Any]]:
    """End the databases of a control plane whose processes are on this host.

    Returns:
        What became of each, and of those on other hosts; none of those that are somebody else's, or have ended before.
    """
    from taskensemble.database import is_alive, listens_here_alone, lives_here, stop_database
    from taskensemble.engine.store import Store

    store = Store.connect(store_url)
    told = []
    for experiment, record in store.all_databases():
        if record.external:
            continue
        here = lives_here(record)
        if not here and not (_is_elsewhere(record) and (listens_here_alone(record) or is_alive(record))):
            store.drop_database(experiment, record.identifier)
            continue
        file = _record_file(Path(experiment), record)
        facts: dict[str, Any] = {
            "identifier": record.identifier,
            "experiment": experiment,
            "addresses": list(record.addresses),
            "host": record.host,
            "ended": False,
            "command": f"taskensemble db stop {shlex.quote(str(file.parent if file else experiment))}",
        }
        told.append(facts)
        if not here:
            continue
        try:
            stop_database(record, timeout)
        except DatabaseError as error:
            complain(str(error))
            facts["error"] = str(error)
            continue
        facts["ended"] = True
        store.drop_database(experiment, record.identifier)
        if file is not None:
            file.unlink(missing_ok=True)
    store.close()
    return told


def _is_elsewhere(record: DatabaseAddressRecord) -> bool:
    return record.host not in ("", socket.gethostname())


def _record_file(experiment: Path, record: DatabaseAddressRecord) -> Path | None:
    """Where the driver has kept a database's address, if that can be seen from here and is still this database's."""
    from taskensemble.database import read_record

    for file in experiment.glob(f"*/{DATABASE_RECORD}"):
        with suppress(OSError, DatabaseFilesError):
            if read_record(file) == record:
                return file
    return None


def _database_line(facts: dict[str, Any]) -> str:
    name = f"The database {facts['identifier']} at {', '.join(facts['addresses'])}"
    if facts["ended"]:
        return f"{name} has ended."
    if "error" in facts:
        return f"{name} has not ended; `{facts['command']}` tries again."
    return f"{name} is on {facts['host']} and goes on: there, `{facts['command']}` ends it."


def worker(
    context: typer.Context,
    path: Path = FOLDER_OPTION,
    wait: bool = WAIT_OPTION,
) -> None:
    """Run a worker in the foreground.

    Further options go to it: --slots, --gpus, --memory, --tags, --queue, --name; `--help` lists them.
    """
    if "--help" in context.args:
        _replace_by("workers.app", context.args, dict(os.environ))
    control = planes.awaited(path, wait=wait, user="worker")
    _replace_by("workers.app", context.args, local.worker_environment(control.broker_url, control.store_url))


def inference_worker(context: typer.Context) -> None:
    """Run an inference worker of a database in the foreground.

    One --backend on one --device for the server --db host:port; `--help` lists its options.
    """
    _replace_by("workers.inference", ["worker", *context.args], dict(os.environ))


def _listening_address(bind: str) -> str:
    """The address that `--bind` means: of a network, of a host's name, or itself.

    Raises:
        InputError: this machine cannot listen there
    """
    from taskensemble.database import interface_address

    if bind not in {name for _, name in socket.if_nameindex()}:
        with suppress(OSError):
            bind = str(socket.getaddrinfo(bind, None)[0][4][0])
    return interface_address(bind, "--bind ")


def _told(facts: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        typer.echo(sentence)


def _replace_by(module: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Become `python -P -m module`."""
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *arguments], environment)


def _until_interrupted(server: embedded.EmbeddedServer) -> None:
    """Wait for SIGINT or SIGTERM, or for the server's end, and end the server in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(server.folder)
    with suppress(KeyboardInterrupt):
        while embedded.attach(folder) is not None:
            time.sleep(0.5)
    if embedded.attach(folder) is not None:
        embedded.stop(server)
