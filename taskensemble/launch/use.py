"""Whether anybody still uses a database that has a batch job of its own: a job that nobody needs ends before its walltime.

A driver attends its database by a connection with a name, to each server. The kernel closes it when the driver dies, however
that happens. A database is used while a driver attends it, while its experiment has a run that has not ended, and while other
clients send it commands; asking it how it is does not count, nor do its own inference workers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from taskensemble.database.connection import Administration, Refused, connected, login, text
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.engine.store import Store
from taskensemble.errors import ControlPlaneError, TaskensembleError

DRIVER = "taskensemble-driver"
LOOK_SECONDS = 15.0
"""Between two looks of a driver at its connections."""
RECENT_SECONDS = 10
"""A client is at work that has sent a command in so many seconds."""
_ASKING = ("ai._worker", "client", "info", "ping", "cluster", "command", "config", "hello", "auth", "null")


class Attendance:
    """A driver's connections to its database, held until it is left or the driver ends; those that break are made again."""

    def __init__(self, record: DatabaseAddressRecord) -> None:
        self._record = record
        self._left = threading.Event()
        held = threading.Event()
        self._thread = threading.Thread(
            target=self._attend, args=(held,), name=f"taskensemble-attends-{record.identifier}", daemon=True
        )
        self._thread.start()
        held.wait(LOOK_SECONDS)

    def leave(self) -> None:
        """Close the connections."""
        self._left.set()
        self._thread.join(LOOK_SECONDS)

    def _attend(self, held: threading.Event) -> None:
        while not self._left.is_set():
            try:
                with ExitStack() as stack:
                    clients = [
                        stack.enter_context(connected(address, login(self._record)))
                        for address in self._record.addresses
                    ]
                    for client in clients:
                        client.ask("CLIENT", "SETNAME", DRIVER)
                    held.set()
                    while not self._left.wait(LOOK_SECONDS):
                        for client in clients:
                            client.ask("PING")
            except Refused:
                self._left.wait(LOOK_SECONDS)


class Use:
    """Whether a database is used, as its job sees it.

    Arguments:
        records: the records of all its servers at the time of asking.
        store_url: the record store; one that cannot be reached knows of no run.
        experiment: name of the experiment that the database belongs to.
    """

    def __init__(self, records: Callable[[], Iterable[DatabaseAddressRecord]], store_url: str, experiment: str) -> None:
        self._records = records
        self._store = Store(store_url, patience=1.0)
        self._experiment = experiment

    def __call__(self) -> bool:
        """Whether it is used now."""
        return any(map(_has_clients, self._records())) or self._has_runs()

    def _has_runs(self) -> bool:
        try:
            self._store.ping()
            return not set(self._store.active_runs()).isdisjoint(self._store.runs(self._experiment))
        except (ControlPlaneError, TaskensembleError, OSError):
            return False


def _has_clients(record: DatabaseAddressRecord) -> bool:
    for address in record.addresses:
        try:
            with connected(address, login(record), timeout=2.0) as client:
                if in_use(_clients(client), str(client.ask("CLIENT", "ID"))):
                    return True
        except Refused:
            continue
    return False


def _clients(client: Administration) -> list[str]:
    return text(client.ask("CLIENT", "LIST")).splitlines()


def in_use(clients: Sequence[str], own: str = "") -> bool:
    """Whether one of the lines of CLIENT LIST, other than that with the id `own`, is of a driver or of a client at work."""
    for line in clients:
        facts = dict(word.partition("=")[::2] for word in line.split(" "))
        if facts.get("id") == own:
            continue
        if facts.get("name") == DRIVER:
            return True
        at_work = int(facts.get("idle", 0)) < RECENT_SECONDS or not {"b", "P"}.isdisjoint(facts.get("flags", ""))
        if at_work and facts.get("cmd", "").partition("|")[0].lower() not in _ASKING:
            return True
    return False
