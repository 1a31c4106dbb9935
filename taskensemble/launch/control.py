"""The control plane as a driver or a command sees it: a broker's URL, the record store, and whatever had to be started for them.

Where it comes from, first match wins:

    given      broker= or the setting broker_url (records in store= or store_url; see `configuration`): nothing is started
    kept       `taskensemble up` in the experiment's folder or a folder above it: joined, left running
    embedded   a Valkey server and a worker of the experiment's own, which end with this process
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from taskensemble import configuration
from taskensemble.engine.allocation import from_environment
from taskensemble.engine.urls import AMQP_SCHEMES, check_url, is_redis, without_password
from taskensemble.errors import ControlPlaneError, InputError
from taskensemble.launch import embedded, local

if TYPE_CHECKING:
    from taskensemble.engine.store import Store
    from taskensemble.launch.batch import BatchJobs


logger = logging.getLogger("taskensemble")

_embedded: WeakValueDictionary[Path, ControlPlane] = WeakValueDictionary()
"""The embedded control planes of this process by their folder: experiments of one folder share one."""

SOON = 3.0
"""Seconds: a worker that lives no longer fails for a reason that the next one would meet as well."""


class ControlPlane:
    """A control plane, open or to be opened again: an embedded one of this process's own comes back from its append-only file.

    Arguments:
        broker_url, store_url: where messages and records are
        folder: whose control plane it is
        server: the embedded server, if there is one
        own: whether this process started the server, so that it ends with it
    """

    def __init__(
        self,
        broker_url: str,
        store_url: str,
        folder: Path,
        server: embedded.EmbeddedServer | None = None,
        *,
        own: bool = False,
    ) -> None:
        self.broker_url = broker_url
        self.store_url = store_url
        self.folder = folder.resolve()
        self.is_own = own
        self._server = server
        self._store: Store | None = None
        self._workers: list[local.LocalWorker] = []
        self._slots: int | None = None
        self._allocation = False
        self._jobs: BatchJobs | None = None
        self._users: set[int] = set()
        self._process = os.getpid()
        if own and server is not None:
            _embedded[self.folder] = self
        if own and server is not None:
            self._keep(server)

    @property
    def is_open(self) -> bool:
        """Whether it can be used without starting anything."""
        return self._server is not None or not self.is_own

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process made it, rather than one that it was forked from."""
        return self._process == os.getpid()

    @property
    def store(self) -> Store:
        """The record store, connected at first use.

        Raises:
            ControlPlaneError: it does not answer
        """
        from taskensemble.engine.store import Store

        if not self.is_open:
            self._serve()
        if self._store is None:
            # A wrong address is told at once; an open store has the patience for a restart.
            Store.connect(self.store_url, patience=2.0).close()
            self._store = Store.connect(self.store_url)
        return self._store

    @property
    def jobs(self) -> BatchJobs:
        """The batch jobs of its runs that this process looks after."""
        if self._jobs is None:
            from taskensemble.launch.batch import BatchJobs

            worker = self._server.url_for("worker") if self._server is not None else None
            self._jobs = BatchJobs(
                self.folder, worker or self.broker_url, worker or self.store_url, outlives_driver=not self.is_own
            )
        return self._jobs

    def join(self, user: object) -> None:
        """Count somebody in, who lets go with `close`. A second time is fine."""
        self._users.add(id(user))

    def start_worker(self, slots: int | None, *, allocation: bool = False) -> None:
        """Bring up a worker beside the embedded server, unless there is one.

        Beside a kept control plane there are workers already, but perhaps none in the allocation that this process is in: where
        one is asked for and lacking, it is brought up as well. With a broker that was given, workers are its owner's.

        Parameters:
            allocation: inside an allocation of a scheduler its slots are the whole allocation
        """
        if self.has_worker or not (self.is_own or (allocation and self._lacks_allocation_worker())):
            return
        self._slots, self._allocation = slots, allocation
        if not self.is_open:
            self._serve()
        paths = embedded.ControlPaths(self.folder)
        url = self._server.url_for("worker") if self._server is not None and not self.is_own else None
        name = f"local-{os.getpid()}-{secrets.token_hex(2)}"
        self._workers = [
            local.start(
                url or self.broker_url,
                url or self.store_url,
                paths.workers,
                name=name,
                slots=slots,
                cwd=self.folder,
                allocation=allocation and from_environment(os.environ) is not None,
            )
        ]

    def _lacks_allocation_worker(self) -> bool:
        """Whether this process is in an allocation of which no worker has registered with the kept control plane."""
        found = from_environment(os.environ)
        if found is None or self._server is None:
            return False
        return not any(worker.job == found.job_id and worker.age <= worker.lease for worker in self.store.workers())

    @property
    def has_worker(self) -> bool:
        """Whether a worker that this process started lives: registered, or about to be."""
        return any(worker.alive for worker in self._workers)

    def check(self) -> None:
        """Replace a worker of this process's own that has died; its members run again there.

        Raises:
            ControlPlaneError: it died soon after its start, so another would too; the message has the end of its log
        """
        for worker in self._workers:
            if worker.alive:
                continue
            if time.monotonic() - worker.begun < SOON:
                raise ControlPlaneError(
                    f"The local worker {worker.name} ended with status {worker.process.returncode}; its log is "
                    f"{worker.log}:\n{worker.log_tail()}"
                )
            logger.warning("The local worker %s has died (its log is %s) and is replaced.", worker.name, worker.log)
            self.start_worker(self._slots, allocation=self._allocation)
            return

    @property
    def has_ended(self) -> bool:
        """Whether it was embedded in another process, and has ended with it."""
        return not self.is_own and self._server is not None and embedded.attach(self.folder) is None

    def take_over(self) -> None:
        """Bring one that has ended back from its append-only file, as this process's own.

        Raises:
            ControlPlaneError: another process has done so meanwhile, or it cannot start
        """
        if self._store is not None:
            self._store.close()
            self._store = None
        self.is_own = True
        try:
            self._serve()
        except ControlPlaneError:
            self.is_own = False
            raise
        _embedded[self.folder] = self

    def close(self, user: object = None) -> None:
        """Close the connection and end what this process started: batch jobs and the worker first, then the server.

        Nothing of that while somebody else than `user` has joined and not closed.
        Batch jobs of somebody else's control plane go on, but for those whose work is over.
        """
        self._users.discard(id(user))
        if self._users:
            return
        if self._jobs is not None:
            self._jobs.settle()
            self._jobs.close(cancel=self.is_own)
            self._jobs = None
        for worker in self._workers:
            worker.stop()
        self._workers = []
        if self._store is not None:
            self._store.close()
            self._store = None
        if self.is_own and self._server is not None:
            server, self._server = self._server, None
            embedded.stop(server)

    def _serve(self) -> None:
        self._server = embedded.start(self.folder, bind=self._bind)
        self.broker_url = self.store_url = self._server.url
        self._keep(self._server)

    def _keep(self, server: embedded.EmbeddedServer) -> None:
        """Look after the server: one that dies comes back from its append-only file at its old address."""
        threading.Thread(target=self._replace, args=(server,), name="taskensemble-control-plane", daemon=True).start()

    def _replace(self, server: embedded.EmbeddedServer) -> None:
        while True:
            begun = time.monotonic()
            embedded.wait(server)
            if self._server is not server:
                return
            if time.monotonic() - begun < SOON:
                logger.error("The embedded control plane of %s does not stay alive; its log is beside it.", self.folder)
                return
            logger.warning("The embedded control plane of %s has died and is brought back.", self.folder)
            try:
                self._server = server = embedded.start(self.folder, bind=self._bind)
            except ControlPlaneError as error:
                logger.error("%s", error)
                return

    @property
    def _bind(self) -> str:
        return urlsplit(self.broker_url).hostname or "127.0.0.1"


def given(broker: str | None = None, store: str | None = None, folder: Path | None = None) -> ControlPlane | None:
    """The control plane that arguments or the settings (see `configuration`) name; None when they name none.

    Raises:
        InputError: a URL of an unknown kind, or a RabbitMQ broker without a store
    """
    broker_url = broker or configuration.find("broker_url", folder).value
    if not broker_url:
        if store is not None:
            raise InputError(
                f"store={without_password(store)!r} was given without broker=…: give both, or the broker alone."
            )
        return None
    store_url = store or configuration.find("store_url", folder).value
    check_url(broker_url, "broker")
    if store_url:
        check_url(store_url, "store")
    if not is_redis(broker_url) and urlsplit(broker_url).scheme not in AMQP_SCHEMES:
        raise InputError(
            f"broker={without_password(broker_url)!r} is no broker: use redis://, valkey://, rediss:// or amqp:// (RabbitMQ)."
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
            f"store={without_password(store_url)!r} is no Redis or Valkey server: use redis://, valkey:// or rediss://."
        )
    return ControlPlane(broker_url=broker_url, store_url=store_url, folder=(folder or Path.cwd()))


def find(folder: Path, user: str = "driver") -> ControlPlane | None:
    """The living embedded control plane that belongs to `folder`: its own, or a kept one above it. Nothing is started.

    Parameters:
        user: as whom to use it, where it has users (`taskensemble up --acl`): driver, worker or viewer
    """
    shared = _shared(folder)
    if shared is not None and shared.is_open:
        return shared
    server = embedded.attach(folder) or embedded.kept_above(folder)
    return _of(server, user=user) if server is not None else None


def bring_up(folder: Path, bind: str = "127.0.0.1") -> ControlPlane:
    """Start the embedded control plane of `folder`, from its append-only file if there is one.

    Parameters:
        bind: address that it listens on besides 127.0.0.1

    Raises:
        ControlPlaneError: another process owns it, or it cannot start
    """
    return _shared(folder) or _of(embedded.start(folder, bind=bind), own=True)


def _shared(folder: Path) -> ControlPlane | None:
    """The embedded control plane that another experiment of this process has in `folder`; a forked child has none."""
    control = _embedded.get(folder.resolve())
    return control if control is not None and control.is_of_this_process else None


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


def for_reader(
    folder: Path, broker: str | None = None, store: str | None = None, user: str = "driver", bind: str = "127.0.0.1"
) -> ControlPlane | None:
    """The control plane that holds the runs of `folder`, brought back from its append-only file if it has ended.

    None: there never was one.

    Parameters:
        user: as for `find`
        bind: address that one which is brought back listens on besides 127.0.0.1; where it is not said, the one that it had: what
            of its runs goes on may do so on other nodes
    """
    control = given(broker, store, folder) or find(folder, user)
    if control is None and embedded.exists(folder):
        control = bring_up(folder, embedded.earlier_bind(folder) if bind == "127.0.0.1" else bind)
    return control


def awaited(folder: Path, *, wait: bool, user: str = "driver") -> ControlPlane:
    """The living control plane of `folder`, given or kept; with `wait`, as soon as there is one.

    Parameters:
        user: as for `find`

    Raises:
        ControlPlaneError: there is none
    """
    while (control := given(folder=folder.resolve()) or find(folder.resolve(), user)) is None:
        if not wait:
            if embedded.exists(folder):
                where = shlex.quote(str(folder.resolve()))
                raise ControlPlaneError(
                    f"Nothing runs in {folder.resolve()}: its driver has ended. `taskensemble report last -p {where}` shows what "
                    f"became of it; `taskensemble up -p {where}` brings its control plane back, for this and for the next driver."
                )
            raise ControlPlaneError(
                f"No control plane for {folder.resolve()}: set TASKENSEMBLE_BROKER_URL, or run `taskensemble up` there first."
            )
        time.sleep(0.2)
    return control


def _of(server: embedded.EmbeddedServer, *, own: bool = False, user: str = "driver") -> ControlPlane:
    url = server.url if own else server.url_for(user)
    return ControlPlane(url, url, Path(server.folder), server, own=own)
