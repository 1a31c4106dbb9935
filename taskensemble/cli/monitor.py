"""`flower`: watch the members in a browser."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import typer

from taskensemble import configuration
from taskensemble.cli.control import FOLDER_OPTION, WAIT_OPTION
from taskensemble.cli.plane import check_free
from taskensemble.engine.urls import amqp_tls, celery_url
from taskensemble.launch import control as planes
from taskensemble.launch import local


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(flower)


def flower(
    *,
    path: Path = FOLDER_OPTION,
    address: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(5555, min=0, max=65535, help="Port to listen on; 0: a free one, which Flower prints."),
    user: str = typer.Option("taskensemble", help="Name to log in with."),
    password: str | None = typer.Option(
        None, envvar="TASKENSEMBLE_FLOWER_PASSWORD", help="Password; default: a new one, printed once."
    ),
    wait: bool = WAIT_OPTION,
) -> None:
    """Start Flower: Celery's own page, with members under their names."""
    check_free(address, port)
    control = planes.awaited(path, wait=wait, user="worker")
    environment = local.worker_environment(control.broker_url, control.store_url)
    given = password or configuration.find("flower_password", path).value
    password = given or secrets.token_urlsafe(12)
    typer.echo(f"Flower: http://{address}:{port}  user {user}  password {'as given' if given else password}")
    # Options with secrets travel in the environment: an argument list is there for everybody to read.
    environment |= {
        "CELERY_BROKER_URL": celery_url(control.broker_url),
        # Flower takes no more of TLS than the URL; the authority stands in Python's own variable.
        **({"SSL_CERT_FILE": tls["ca_certs"]} if (tls := amqp_tls(control.broker_url)) and "ca_certs" in tls else {}),
        "FLOWER_BASIC_AUTH": f"{user}:{password}",
        "FLOWER_ADDRESS": address,
        "FLOWER_PORT": str(port),
        "FLOWER_ENABLE_EVENTS": "true",
    }
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "celery", "flower"]
    os.execve(sys.executable, command, environment)
