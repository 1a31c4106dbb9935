"""The control plane as a driver or a command sees it: a broker's URL, the record store, and whatever had to be started for them.

Where it comes from, first match wins:

    given      broker= or TASKENSEMBLE_BROKER_URL (records in store= or TASKENSEMBLE_STORE_URL): nothing is started
    kept       `taskensemble up` in the experiment's folder or a folder above it: joined, left running
    embedded   a Valkey server and a worker of the experiment's own, which end with this process
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from taskensemble.engine.urls import AMQP_SCHEMES, is_redis, without_password
from taskensemble.errors import ControlPlaneError, InputError
from taskensemble.launch import embedded, local

if TYPE_CHECKING:
    from taskensemble.engine.store import Store


@dataclass
class ControlPlane:
    """An open control plane."""

    broker_url: str
    store_url: str
    folder: Path
    server: embedded.EmbeddedServer | None = None
    """The embedded server, if there is one."""
    owned: bool = False
    """Whether this process started the server, so that it ends with it."""
    workers: list[local.LocalWorker] = field(default_factory=list)
    _store: Store | None = None

    @property
    def store(self) -> Store:
        """The record store, connected at first use.

        Raises:
            ControlPlaneError: it does not answer
        """
        if self._store is None:
            from taskensemble.engine.store import Store

            self._store = Store.connect(self.store_url)
        return self._store

    def start_worker(self, slots: int | None) -> None:
        """Bring up a worker of this process's own, unless it has one that lives or the control plane is not its own."""
        if not self.owned or any(worker.alive for worker in self.workers):
            return
        paths = embedded.ControlPaths(self.folder.resolve())
        name = f"local-{os.getpid()}-{secrets.token_hex(2)}"
        self.workers.append(
            local.start(self.broker_url, self.store_url, paths.workers, name=name, slots=slots, cwd=self.folder)
        )

    def check(self) -> None:
        """Raise when what this process started has died.

        Raises:
            ControlPlaneError: the worker ended; the message has the end of its log
        """
        for worker in self.workers:
            if not worker.alive:
                raise ControlPlaneError(
                    f"The local worker {worker.name} ended with status {worker.process.returncode}; its log is {worker.log}:\n"
                    f"{worker.log_tail()}"
                )

    def close(self) -> None:
        """Close the connections and end what this process started: workers first, then the server."""
        for worker in self.workers:
            worker.stop()
        self.workers.clear()
        if self._store is not None:
            self._store.close()
            self._store = None
        if self.owned and self.server is not None:
            embedded.stop(self.server)
            self.owned = False


def given(broker: str | None = None, store: str | None = None, folder: Path | None = None) -> ControlPlane | None:
    """The control plane that arguments or the environment name; None when they name none.

    Raises:
        InputError: a URL of an unknown kind, or a RabbitMQ broker without a store
    """
    broker_url = broker or os.environ.get("TASKENSEMBLE_BROKER_URL")
    if not broker_url:
        if store is not None:
            raise InputError(
                f"store={without_password(store)!r} was given without broker=…: give both, or the broker alone."
            )
        return None
    store_url = store or os.environ.get("TASKENSEMBLE_STORE_URL")
    if not is_redis(broker_url) and urlsplit(broker_url).scheme not in AMQP_SCHEMES:
        raise InputError(
            f"broker={without_password(broker_url)!r} is not a URL of a broker: use redis://, valkey://, rediss:// or amqp:// (RabbitMQ)."
        )
    if not store_url:
        if not is_redis(broker_url):
            raise InputError(
                f"broker={without_password(broker_url)!r} keeps no records: "
                "name a Redis or Valkey server with store=… or TASKENSEMBLE_STORE_URL."
            )
        store_url = broker_url
    if not is_redis(store_url):
        raise InputError(
            f"store={without_password(store_url)!r} is not a URL of a Redis or Valkey server: use redis://, valkey:// or rediss://."
        )
    return ControlPlane(broker_url=broker_url, store_url=store_url, folder=(folder or Path.cwd()))


def find(folder: Path) -> ControlPlane | None:
    """The living embedded control plane that belongs to `folder`: its own, or a kept one above it. Nothing is started."""
    server = embedded.attach(folder) or embedded.kept_above(folder)
    return _of(server) if server is not None else None


def bring_up(folder: Path, bind: str = "127.0.0.1", kept: bool = False) -> ControlPlane:
    """Start the embedded control plane of `folder`, from its append-only file if there is one.

    Raises:
        ControlPlaneError: another process owns it, or it cannot start
    """
    control = _of(embedded.start(folder, bind=bind, kept=kept))
    control.owned = not kept
    return control


def for_driver(folder: Path, broker: str | None, store: str | None, bind: str = "127.0.0.1") -> ControlPlane:
    """The control plane that a start in `folder` uses; see the head of this file.

    Raises:
        InputError: broker or store cannot be used
        ControlPlaneError: the folder's control plane belongs to another driver, or cannot start
    """
    control = given(broker, store, folder)
    if control is not None:
        return control
    kept = embedded.kept_above(folder)
    if kept is not None:
        return _of(kept)
    return bring_up(folder, bind)


def for_reader(folder: Path, broker: str | None = None, store: str | None = None) -> ControlPlane | None:
    """The control plane that holds the runs of `folder`, brought back from its append-only file if it has ended; None: there never was one."""
    control = given(broker, store, folder) or find(folder)
    if control is None and embedded.exists(folder):
        control = bring_up(folder)
    return control


def awaited(folder: Path, *, wait: bool) -> ControlPlane:
    """The living control plane of `folder`, given or kept; with `wait`, as soon as there is one.

    Raises:
        ControlPlaneError: there is none
    """
    while (control := given() or find(folder.resolve())) is None:
        if not wait:
            raise ControlPlaneError(
                f"No control plane for {folder.resolve()}: set TASKENSEMBLE_BROKER_URL, or run `taskensemble up` there first."
            )
        time.sleep(0.2)
    return control


def _of(server: embedded.EmbeddedServer) -> ControlPlane:
    return ControlPlane(broker_url=server.url, store_url=server.url, folder=Path(server.folder), server=server)
