"""AI databases for tests: servers with the module and inference workers on demand, gone with the `with` block."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from taskensemble.ai.resp import Address, Connection, Reply, ReplyError
from taskensemble.database import AI_MODULE, DatabaseOptions, free_port, start_database, stop_database
from taskensemble.engine.records import DatabaseAddressRecord


class Database:
    """A running database: one server that listens on a port and a Unix socket, or a cluster on ports."""

    def __init__(self, shards: int = 1, settings: Mapping[str, str] | None = None, supervise: bool = True) -> None:
        if not AI_MODULE.exists():
            pytest.skip(f"{AI_MODULE} is not built: pip install -e .")
        self._folder = Path(tempfile.mkdtemp(prefix="te-db-"))
        self.socket = self._folder / "s"
        self._options = DatabaseOptions(
            name="db",
            folder=self._folder,
            port=free_port() if shards == 1 else 0,
            unix_socket=str(self.socket) if shards == 1 else None,
            shards=shards,
            settings=settings or {},
            supervise=supervise,
        )
        self._record: DatabaseAddressRecord | None = None

    @property
    def addresses(self) -> list[str]:
        """`host:port` of each server."""
        if self._options.port:
            return [f"127.0.0.1:{self._options.port}"]
        assert self._record is not None
        return list(self._record.addresses)

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids: the servers', then the supervisor's."""
        assert self._record is not None
        return self._record.processes

    def start(self) -> None:
        self._record = start_database(self._options)

    def stop(self) -> None:
        if self._record is not None:
            stop_database(self._record)
            self._record = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, *arguments: bytes | str | int) -> Reply:
        """The first server's reply to a command; an error is raised."""
        connection = Connection(Address.parse(self.address), 5)
        try:
            reply = connection.exchange([arguments], 120)[0]
        finally:
            connection.close()
        if isinstance(reply, ReplyError):
            raise reply
        return reply


@contextlib.contextmanager
def database(
    shards: int = 1, settings: Mapping[str, str] | None = None, *, supervise: bool = True
) -> Iterator[Database]:
    """A database on free ports."""
    made = Database(shards, settings, supervise)
    try:
        made.start()
        yield made
    finally:
        made.remove()
