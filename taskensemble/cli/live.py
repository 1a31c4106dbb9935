"""`dashboard` and `metrics`: what happens, for a browser and for Prometheus."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from taskensemble import configuration
from taskensemble.cli.control import FOLDER_OPTION, WAIT_OPTION
from taskensemble.cli.plane import check_free
from taskensemble.errors import DatabaseError, UnsupportedError
from taskensemble.launch import control as planes

if TYPE_CHECKING:
    from taskensemble.engine.records import DatabaseAddressRecord

DATABASES_OPTION = typer.Option(
    [], "--db", help="Address of a database that no experiment has started (host:port, redis://…); may be repeated."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(dashboard)
    app.command()(metrics)


def dashboard(
    path: Path = FOLDER_OPTION,
    address: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8787, min=1, max=65535, help="Port to listen on."),
    user: str = typer.Option("taskensemble", help="Name to log in with."),
    password: str | None = typer.Option(
        None, envvar="TASKENSEMBLE_DASHBOARD_PASSWORD", help="Password; default: a new one, printed once."
    ),
    wait: bool = WAIT_OPTION,
) -> None:
    """Serve a live page of runs, members, workers and databases."""
    try:
        import uvicorn

        from taskensemble.dashboard.app import create_app
    except ImportError as error:
        raise UnsupportedError(f"The dashboard needs {error.name}: pip install 'taskensemble[dashboard]'") from error
    check_free(address, port)
    control = planes.awaited(path, wait=wait)
    given = password or configuration.find("dashboard_password", path).value
    password = given or secrets.token_urlsafe(12)
    shown = "as given" if given else password
    typer.echo(f"Dashboard: http://{address}:{port}  user {user}  password {shown}  (Ctrl-C ends it)")
    uvicorn.run(create_app(control.store, user, password), host=address, port=port, log_level="warning")


def metrics(
    path: Path = FOLDER_OPTION,
    address: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(9464, min=0, max=65535, help="Port to listen on; 0: a free one, which is printed."),
    db: list[str] = DATABASES_OPTION,
    wait: bool = WAIT_OPTION,
) -> None:
    """Serve Prometheus metrics of runs, workers and databases."""
    from prometheus_client import CollectorRegistry, start_http_server

    from taskensemble.metrics import ControlPlaneCollector

    check_free(address, port)
    control = planes.awaited(path, wait=wait)
    registry = CollectorRegistry()
    others = [_attached(address, wait=wait) for address in db]
    ControlPlaneCollector(control.store, control.broker_url, registry, others)
    server, thread = start_http_server(port, address, registry=registry)
    typer.echo(f"Metrics: http://{address}:{server.server_port}/metrics")
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    try:
        over.wait()
    finally:
        server.shutdown()
        thread.join()


def _attached(address: str, *, wait: bool) -> DatabaseAddressRecord:
    from taskensemble.database import attach_database

    while True:
        try:
            return attach_database(address, identifier=address)
        except DatabaseError:
            if not wait:
                raise
            time.sleep(0.5)
