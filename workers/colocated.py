"""Colocated databases: started on the member's node before its program, stopped after it.

A shared one serves all members of its entity on this worker; it stops when the entity's run has no queue any more.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from taskensemble.database import (
    DatabaseOptions,
    PortTakenError,
    is_alive,
    load_assets,
    start_database,
    stop_database,
)
from taskensemble.engine.records import AssetRecord, ColocatedRecord, DatabaseAddressRecord, DatabaseUseRecord
from taskensemble.errors import TaskensembleError

logger = logging.getLogger("taskensemble.worker")

_turns = itertools.count()
"""How many databases have taken CPUs: the next one takes the next CPUs."""
_sockets: set[str] = set()
"""Paths that users chose and that a database of this process listens on."""
_lock = threading.Lock()

Content = Callable[[AssetRecord], bytes]


class Colocated:
    """A running colocated database."""

    def __init__(self, address: DatabaseAddressRecord, path: str | None, socket_folder: Path | None) -> None:
        self.address = address
        self._path = path
        self._socket_folder = socket_folder

    def alive(self) -> bool:
        """Whether it answers."""
        return is_alive(self.address)

    def stop(self) -> None:
        """Ends it and removes its socket."""
        with suppress(TaskensembleError, OSError):
            stop_database(self.address, timeout=10)
        _give_back(self._path, self._socket_folder)


def start(
    use: DatabaseUseRecord,
    record: ColocatedRecord,
    folder: Path,
    name: str,
    assets: Sequence[AssetRecord],
    content: Content,
) -> Colocated:
    """Starts a colocated database with its assets and waits until they are in place.

    Arguments:
        folder: where its log goes.
        name: of its files there.
        content: the bytes of an asset.

    Raises:
        TaskensembleError: it cannot be started, or refuses an asset; then nothing of it is left.
    """
    path, socket_folder = _socket_path(record) if record.transport == "unix" else (None, None)
    settings = dict(record.settings)
    if record.debug:
        settings.setdefault("loglevel", "debug")
    options = DatabaseOptions(
        name=name,
        folder=folder,
        identifier=use.identifier,
        port=record.port,
        interfaces=record.interfaces,
        settings=settings,
        cpus=_cpus(record),
    )
    if record.transport == "unix":
        options = replace(options, port=0, unix_socket=path, socket_permissions=record.socket_permissions)
    try:
        running = Colocated(_start_somewhere(options), path, socket_folder)
    except BaseException:
        _give_back(path, socket_folder)
        raise
    try:
        if assets:
            load_assets(running.address, assets, content)
    except BaseException:
        running.stop()
        raise
    return running


def _start_somewhere(options: DatabaseOptions) -> DatabaseAddressRecord:
    """On the port that was asked for; on any free one where it is in use, by another member's database perhaps."""
    try:
        return start_database(options)
    except PortTakenError as error:
        logger.info("%s; it takes a free port instead.", error)
        return start_database(replace(options, port=0))


def _cpus(record: ColocatedRecord) -> tuple[int, ...]:
    """The CPUs that a database is bound to, of those that the cgroup leaves to this worker; empty: all of them."""
    usable = sorted(os.sched_getaffinity(0))
    if record.custom_pinning is not None or record.cpus >= len(usable):
        return record.custom_pinning or ()
    first = next(_turns) * record.cpus
    return tuple(usable[(first + number) % len(usable)] for number in range(record.cpus))


def _socket_path(record: ColocatedRecord) -> tuple[str, Path | None]:
    """Where a database listens, and the folder to be removed afterwards if it was made for that.

    A user's path serves one database at a time: a second one would take the first one's clients. A socket's path may have 107
    bytes: a member's folder can be longer, /tmp is not.
    """
    chosen = record.unix_socket
    with _lock:
        if chosen is not None and chosen not in _sockets and not _listens(chosen):
            _sockets.add(chosen)
            return chosen, None
    # TMPDIR is a parallel file system on some clusters, where no socket can be.
    folder = Path(tempfile.mkdtemp(prefix="te-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    return str(folder / "db.socket"), folder


def _listens(path: str) -> bool:
    """Whether somebody answers on a socket; the file alone is left by one that died."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _give_back(path: str | None, folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    elif path is not None:
        Path(path).unlink(missing_ok=True)
        _sockets.discard(path)


def check(use: DatabaseUseRecord, record: ColocatedRecord, assets: Sequence[AssetRecord], content: Content) -> None:
    """Loads assets into a throwaway database, to see before any member starts whether they can be.

    Raises:
        TaskensembleError: they cannot.
    """
    folder = Path(tempfile.mkdtemp(prefix="te-check-"))
    try:
        plain = record.model_copy(update={"transport": "unix", "port": 0, "unix_socket": None, "interfaces": ("lo",)})
        start(use, plain, folder, "check", assets, content).stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class SharedDatabases:
    """The shared colocated databases of one worker, one for each entity of a run and identifier."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int, str], Future[Colocated]] = {}
        self._lock = threading.Lock()

    def get(self, run_id: str, entity: int, identifier: str, begin: Callable[[], Colocated]) -> Colocated:
        """The database of an entity, started by whoever asks first, and again when it has died.

        Raises:
            TaskensembleError: it could not be started; the next who asks tries again.
        """
        key = (run_id, entity, identifier)
        with self._lock:
            known = self._running.get(key)
            if known is not None and known.done() and not known.result().alive():
                known.result().stop()
                known = None
            if known is None:
                mine: Future[Colocated] = Future()
                self._running[key] = mine
        if known is not None:
            return known.result()
        try:
            mine.set_result(begin())
        except BaseException as error:
            with self._lock:
                del self._running[key]
            mine.set_exception(error)
            raise
        return mine.result()

    def stop(self, active: Collection[str]) -> None:
        """Stops those of runs that are not active."""
        with self._lock:
            gone = [key for key, future in self._running.items() if key[0] not in active and future.done()]
            futures = [self._running.pop(key) for key in gone]
        for future in futures:
            future.result().stop()
