"""The standard databases of an experiment: started, found, attached, stopped."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskensemble.engine.allocation import of_this_process
from taskensemble.engine.records import DatabaseAddressRecord, RunRecord, State
from taskensemble.errors import DatabaseError, DatabaseIdentifierError, RunNotFoundError, TaskensembleError

if TYPE_CHECKING:
    from taskensemble.database import DatabaseOptions
    from taskensemble.entity import Database
    from taskensemble.experiment import Experiment
    from taskensemble.launch.control import ControlPlane
    from taskensemble.launch.database import HostedDatabase
    from taskensemble.launch.use import Attendance


logger = logging.getLogger("taskensemble")

OWN_LINGER = 30.0
"""Seconds that a database's job goes on without any use; its driver had the control plane, so that no other could go on."""
LINGER = 300.0
"""The same with a control plane that outlives drivers: the next one may be about to reconnect."""


@dataclass
class Running:
    """The servers that run from a description: what `entity.Database.running` asks."""

    record: DatabaseAddressRecord
    stopped: float | None = None
    """When it was stopped; None: it was not."""
    nodes: tuple[str, ...] = ()
    """Those that it has for itself."""

    def is_active(self) -> bool:
        """Whether every server answers."""
        from taskensemble.database import is_alive

        return self.stopped is None and is_alive(self.record)

    def hosts(self) -> Sequence[str]:
        """Where the servers run: the nodes' names, of a database that has nodes of its own."""
        if self.nodes:
            return self.nodes
        return list(dict.fromkeys(address.rpartition(":")[0] for address in self.record.addresses))

    def addresses(self) -> Sequence[str]:
        """Of every server."""
        return self.record.addresses

    def configure(self, key: str, value: str) -> None:
        """Set a configuration on every server.

        Raises:
            DatabaseError: a server refuses it
        """
        from taskensemble.database import configure_database

        configure_database(self.record, key, value)


class Databases:
    """Those that an experiment started or attached, by identifier."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._known: dict[str, Database] = {}
        self._running: dict[str, Running] = {}
        self._started: dict[str, float] = {}
        self._hosted: dict[str, HostedDatabase] = {}
        self._nodes: dict[str, list[str]] = {}
        self._attended: dict[str, Attendance] = {}
        self._adopted: set[str] = set()
        """Identifiers of those that somebody else started: they end when they are stopped by name alone."""

    def active(self) -> dict[str, Database]:
        """Those that run and answer."""
        return {identifier: database for identifier, database in self._known.items() if database.is_active()}

    def check_free(self, identifier: str) -> None:
        """Raise when an active database has the identifier.

        Raises:
            DatabaseIdentifierError: one has
        """
        if identifier in self._known and self._known[identifier].is_active():
            raise DatabaseIdentifierError(
                f"Database identifier {identifier!r} has already been used. Pass in a unique name for db_identifier, or stop "
                "the active database that has it."
            )

    def check_started(self, database: Database) -> None:
        """Raise when a database was never started here.

        Raises:
            RunNotFoundError: it was not
        """
        if not self._is_known(database):
            raise RunNotFoundError(
                f"The database {database.db_identifier!r} was never started by this experiment: pass it to start() first."
            )

    def _is_known(self, database: Database) -> bool:
        """Whether it is one of these; another experiment's description of the same servers counts."""
        known = self._known.get(database.db_identifier)
        if known is None or known is database:
            return known is not None
        return isinstance(database.running, Running) and (
            database.running.addresses() == self._running[database.db_identifier].addresses()
        )

    def start(self, database: Database) -> None:
        """Start a database on this machine and wait until it answers.

        Raises:
            DatabaseError: it cannot start; nothing of it is left
            InputError: an interface or a port that cannot be used
        """
        from taskensemble.database import DatabaseOptions, start_database, write_record

        folder = Path(database.path)
        folder.mkdir(parents=True, exist_ok=True)
        options = DatabaseOptions(
            name=database.name,
            folder=folder,
            identifier=database.db_identifier,
            port=database.ports[0],
            interfaces=tuple(database.interfaces),
            shards=database.num_shards,
            intra_op_threads=database.intra_op_threads or 0,
            inter_op_threads=database.inter_op_threads or 0,
            workers_per_device=database.threads_per_queue or 1,
            restricted=database.restricted,
            secret=secrets.token_hex(16) if database.restricted else None,
            owner=None if self._experiment.ends_with_driver else 0,
            restart=True,
        )
        record = self._start_hosted(database, options) or start_database(options)
        write_record(Path(database.checkpoint_file), record)
        self._adopted.discard(database.db_identifier)
        self._keep(database, record)

    def _start_hosted(self, database: Database, options: DatabaseOptions) -> DatabaseAddressRecord | None:
        """Start a database in a batch job of its own, or on a node of its own in this allocation; None: neither is meant."""
        from taskensemble.launch import database as hosted

        allocation = None if self._experiment.launcher == "local" else of_this_process()
        if database.batch_settings is not None:
            own, store_url = self._experiment.record_store()
            linger = database.linger if database.linger is not None else OWN_LINGER if own else LINGER
            use = hosted.JobUse(store_url, self._experiment.name, linger)
            started = hosted.start_in_job(options, database.batch_settings.record(), use)
        elif allocation is not None and len(allocation.nodes) > 1:
            nodes = hosted.choose_nodes(allocation, options.shards, database.wanted_hosts, self.reserved_nodes())
            self._nodes[database.db_identifier] = [node.name for node in nodes]
            self._experiment.reserve_nodes(allocation.job_id, self.reserved_nodes())
            try:
                started = hosted.start_in_allocation(options, allocation, nodes)
            except TaskensembleError:
                self._free_nodes(database.db_identifier)
                raise
        else:
            return None
        self._hosted[database.db_identifier] = started
        return started.record

    def reserved_nodes(self) -> list[str]:
        """Nodes of this allocation that databases have for themselves."""
        return [node for nodes in self._nodes.values() for node in nodes]

    def _free_nodes(self, identifier: str) -> None:
        """Give a database's nodes back to the members."""
        allocation = of_this_process()
        if self._nodes.pop(identifier, None) is not None and allocation is not None:
            self._experiment.reserve_nodes(allocation.job_id, self.reserved_nodes())

    def attach(self, record: DatabaseAddressRecord) -> Database:
        """A database that somebody else runs, with its address in a file for later drivers."""
        from taskensemble.database import write_record

        database = self.adopt(record, None)
        Path(database.path).mkdir(parents=True, exist_ok=True)
        write_record(Path(database.checkpoint_file), record)
        return database

    def adopt(self, record: DatabaseAddressRecord, path: str | None) -> Database:
        """A database that runs already, described from its address."""
        ports = [int(address.rpartition(":")[2]) for address in record.addresses if not address.startswith("unix://")]
        database = self._experiment.database_class(
            path, ports[0] if ports else 0, db_nodes=len(record.addresses), db_identifier=record.identifier
        )
        database.place(str(Path(self._experiment.exp_path) / database.name))
        self._adopted.add(database.db_identifier)
        self._keep(database, record)
        return database

    def reconnect(self, checkpoint: Path) -> Database:
        """The database whose address a file keeps; the one that is known already, a second time.

        Raises:
            FileNotFoundError, DatabaseFilesError: no such file, or it cannot be read
            DatabaseError: the database does not answer
            DatabaseIdentifierError: another active database has its identifier
        """
        from taskensemble.database import is_alive, read_record
        from taskensemble.launch.use import Attendance

        record = read_record(checkpoint)
        if not is_alive(record):
            raise DatabaseError(
                f"checkpoint={str(checkpoint)!r}: the database at {', '.join(record.addresses)} no longer answers."
            )
        known = self._running.get(record.identifier)
        if known is not None and known.stopped is None and known.addresses() == record.addresses:
            return self._known[record.identifier]
        self.check_free(record.identifier)
        database = self.adopt(record, str(checkpoint.parent))
        self._attended[record.identifier] = Attendance(record)
        return database

    def stop(self, database: Database) -> None:
        """End a database; one that somebody else runs is only let go. A second time is fine."""
        from taskensemble.database import stop_database

        identifier = database.db_identifier
        running = self._running[identifier]
        if running.stopped is not None:
            return
        hosted = self._hosted.pop(identifier, None)
        if identifier in self._attended:
            self._attended.pop(identifier).leave()
        if hosted is not None:
            hosted.stop()
            self._free_nodes(identifier)
        else:
            stop_database(running.record)
        running.stopped = time.time()
        Path(database.checkpoint_file).unlink(missing_ok=True)
        self._experiment.forget_database(identifier)

    def stop_all(self) -> None:
        """Stop all that this experiment started."""
        for identifier, database in list(self._known.items()):
            if identifier not in self._adopted:
                self.stop(database)

    def state(self, database: Database) -> State:
        """Running, Cancelled once it was stopped, Failed when it ended by itself, NeverStarted."""
        identifier = database.db_identifier
        if not self._is_known(database):
            return State.NEVER_STARTED
        if database.is_active():
            return State.RUNNING
        return State.FAILED if self._running[identifier].stopped is None else State.CANCELLED

    def rows(self) -> list[tuple[object, ...]]:
        """One row of the experiment's summary for each."""
        now = time.time()
        return [
            (
                identifier,
                "Database",
                ", ".join(database.hosts),
                0,
                f"{(self._running[identifier].stopped or now) - self._started[identifier]:.4f}",
                self.state(database),
                None,
            )
            for identifier, database in self._known.items()
        ]

    def publish(self, control: ControlPlane) -> None:
        """Say in the record store where the active ones answer: members look there at each attempt."""
        for identifier in self.active():
            control.store.set_database(self._experiment.exp_path, self._running[identifier].record)

    def warn_of_jobs(self, run: RunRecord) -> None:
        """Warn of databases that the members of batch jobs cannot reach from their nodes."""
        from taskensemble.database import listens_here_alone

        used = {use.identifier for template in run.templates if template.batch_queue for use in template.databases}
        for identifier in sorted(used & set(self.active()) - set(self._hosted)):
            record = self._running[identifier].record
            if listens_here_alone(record):
                logger.warning(
                    "The database %s listens on %s alone: members in jobs on other nodes cannot reach it; give "
                    "create_database(interface=…) one that they can.",
                    self._known[identifier].name,
                    record.addresses[0].rpartition(":")[0],
                )

    def _keep(self, database: Database, record: DatabaseAddressRecord) -> None:
        hosted = self._hosted.get(database.db_identifier)
        running = Running(record, nodes=() if hosted is None else tuple(record.host.split(",")))
        database.running = running
        for node, address in zip(database.entities, record.addresses, strict=False):
            node.set_hosts([address.rpartition(":")[0]])
        self._known[database.db_identifier] = database
        self._running[database.db_identifier] = running
        self._started[database.db_identifier] = time.time()
