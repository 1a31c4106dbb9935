"""What an attempt needs before its program starts: a folder with its files, and databases that answer and have its ML assets."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path

import redis

from taskensemble.database import restore_assets
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.engine.store import Store
from taskensemble.errors import DatabaseError, TaskensembleError
from workers import colocated, process
from workers.files import TransferredFiles
from workers.limits import Limits
from workers.logs import about
from workers.process import Attempt
from workers.setup import asset_reader

logger = logging.getLogger("taskensemble.worker")

_ASSETS_LAST = 5.0
"""Seconds for which the assets of a run are believed to be where they were seen."""


class Preparation:
    """Prepares the attempts of one worker.

    Arguments:
        limits: what members may do here.
    """

    def __init__(self, store: Store, files: TransferredFiles, limits: Limits) -> None:
        self._store = store
        self._files = files
        self._limits = limits
        self._shared = colocated.SharedDatabases()
        self._restoring = threading.Lock()
        self._assets_seen: dict[tuple[str, str], float] = {}

    def prepare(self, attempt: Attempt) -> str | BaseException:
        """All that it takes, in a thread: where the attempt runs, or why it cannot."""
        folder = self.folder(attempt)
        if isinstance(folder, str):
            try:
                self._find_databases(attempt, Path(folder))
            except (OSError, TaskensembleError, redis.RedisError) as error:
                return error
        return folder

    def folder(self, attempt: Attempt) -> str | BaseException:
        """Makes its folder alone: all that an attempt without files and databases takes."""
        assert attempt.run is not None
        assert attempt.member is not None
        try:
            self._limits.check_folder(attempt.run.entities[attempt.member.entity], attempt.template, attempt.member)
            if attempt.run.transfer is not None:
                self._files.fetch(attempt)
            folder = process.prepare_folder(attempt)
            if self._limits.executables is not None:
                argv = process.command_line(attempt.template, attempt.member, attempt.number)
                environment = process.base_environment(os.environ, attempt.template, attempt.secrets)
                self._limits.check_program(argv, environment, Path(folder), os.environ)
            return folder
        except (OSError, TaskensembleError, ValueError) as error:
            return error

    def keep(self, active: Collection[str]) -> None:
        """Forgets what is not of these runs."""
        self._assets_seen = {key: seen for key, seen in list(self._assets_seen.items()) if key[0] in active}

    def stop_shared(self, active: Collection[str]) -> None:
        """Stops the shared colocated databases of runs other than these; it takes seconds."""
        self._shared.stop(active)

    def _find_databases(self, attempt: Attempt, folder: Path) -> None:
        assert attempt.run is not None
        assert attempt.member is not None
        uses = attempt.template.databases
        running = self._store.databases(attempt.run.path) if any(use.colocated is None for use in uses) else {}
        for use in uses:
            if use.colocated is None:
                if use.identifier not in running:
                    raise DatabaseError(f"the database {use.identifier!r} that it needs is not running")
                attempt.databases[use.identifier] = running[use.identifier]
                self._restore_assets(attempt, use.identifier, running[use.identifier])
                continue
            content = asset_reader(self._store, attempt.run_id)
            name = f"{attempt.member.name}_db"
            begin = partial(colocated.start, use, use.colocated, folder, name, attempt.template.assets, content)
            if use.colocated.shared:
                # Members with other assets, or another description, have one of their own.
                kind = "".join(record.model_dump_json() for record in (use, *attempt.template.assets))
                database = self._shared.get(attempt.run_id, attempt.entity, kind, begin)
            else:
                database = begin()
                attempt.closers.append(database.stop)
            attempt.databases[use.identifier] = database.address

    def _restore_assets(self, attempt: Attempt, identifier: str, database: DatabaseAddressRecord) -> None:
        """A database that was restarted without its dump has lost the run's assets: they are back before a member starts.

        Each retry looks; a first attempt only when nobody has for a while, so that many small members do not ask in vain.
        """
        assets = attempt.template.assets
        if not assets:
            return
        with self._restoring:
            key = (attempt.run_id, identifier)
            now = time.monotonic()
            if attempt.number == 1 and now - self._assets_seen.get(key, 0.0) < _ASSETS_LAST:
                return
            loaded = restore_assets(database, assets, asset_reader(self._store, attempt.run_id))
            if loaded:
                what = "The database %r had lost %d assets of %s: loaded again"
                logger.warning(what, identifier, loaded, attempt.run_id, extra=about(attempt))
            self._assets_seen[key] = time.monotonic()
