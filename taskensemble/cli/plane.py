"""Which control plane a command means."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from taskensemble.errors import ControlPlaneError, InputError
from taskensemble.launch import control as planes
from taskensemble.launch import embedded

PATH_OPTION = typer.Option(
    Path(), "--path", "-p", help="The experiment's folder, or the one of `taskensemble up`.", file_okay=False
)
BROKER_OPTION = typer.Option(None, "--broker", help="URL of the broker; default: TASKENSEMBLE_BROKER_URL.")
STORE_OPTION = typer.Option(
    None, "--store", help="URL of the records; default: TASKENSEMBLE_STORE_URL, else the broker."
)


@contextmanager
def opened(
    path: Path, broker: str | None = None, store: str | None = None, user: str = "driver"
) -> Iterator[planes.ControlPlane]:
    """The control plane with the runs of `path`, open for a while.

    A folder that has none of its own stands for the one experiment in it that has. A control plane that has ended is brought back
    from its append-only file and ended again.

    Parameters:
        user: as whom to use a control plane that has users; `viewer` for commands that only look

    Raises:
        ControlPlaneError: there is none
        InputError: several experiments in `path` have one
    """
    folder = path.resolve()
    control = planes.for_reader(folder, broker, store, user)
    if control is None and (child := _only_child(folder, ended=True)) is not None:
        control = planes.for_reader(child, user=user)
    if control is None:
        raise ControlPlaneError(
            f"No control plane in {folder}: name the experiment's folder with --path, or a broker with --broker or "
            "TASKENSEMBLE_BROKER_URL."
        )
    try:
        yield control
    finally:
        control.close()


def living(path: Path, user: str = "viewer") -> planes.ControlPlane | None:
    """The control plane that `opened` would use, if it lives: nothing is started or brought back. The caller closes it.

    Parameters:
        user: as for `opened`

    Raises:
        InputError: those of several experiments in `path` live
    """
    folder = path.resolve()
    control = planes.given(folder=folder) or planes.find(folder, user)
    if control is None and not embedded.exists(folder):
        child = _only_child(folder, ended=False)
        control = planes.find(child, user) if child is not None else None
    return control


def _only_child(folder: Path, *, ended: bool) -> Path | None:
    """The one experiment in `folder` that has a control plane: a living one, or else, with `ended`, one that has ended."""
    try:
        children = [child for child in sorted(folder.iterdir()) if child.is_dir() and embedded.exists(child)]
    except OSError as error:
        raise InputError(f"--path {folder} cannot be read: {error.strerror}.") from error
    alive = [child for child in children if embedded.attach(child) is not None]
    candidates = alive or (children if ended else [])
    if len(candidates) > 1:
        names = ", ".join(child.name for child in candidates)
        raise InputError(f"Several experiments in {folder} have runs ({names}): name one with --path.")
    return candidates[0] if candidates else None


def check_free(address: str, port: int) -> None:
    """Refuse a port that a command could not serve on, before it starts anything.

    Raises:
        InputError: somebody listens there, the address is none of this machine's, or the port is not for everybody.
    """
    try:
        family, kind, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(
            f"--address {address} --port {port}: {why}; give another port, or end what listens there"
        ) from None
