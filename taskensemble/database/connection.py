"""Administrative connections to servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from taskensemble.ai.administration import parse_info
from taskensemble.ai.resp import Address, Argument, Connection, Reply, ReplyError
from taskensemble.engine.records import DatabaseAddressRecord

Refused = (ReplyError, OSError)
"""What a command on an administrative connection raises: the server's error, or a connection that fails."""


class Login(NamedTuple):
    """What a connection authenticates with; an empty user is the default one."""

    user: str
    password: str


def login(record: DatabaseAddressRecord) -> Login | None:
    """What the address record of a database says about logging in; None: nothing is needed."""
    return Login(record.user, record.password) if record.password else None


class Administration:
    """A connection on which a refused command raises."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    def ask(self, *words: Argument) -> Reply:
        """Run a command.

        Raises:
            ReplyError: the server refuses it, in its words.
            OSError: the connection broke, or the time is up.
        """
        (reply,) = self._connection.exchange([words], self._timeout)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def info(self, section: str) -> dict[str, str]:
        """One section of the server's INFO."""
        facts: dict[str, str] = {}
        for part in parse_info(text(self.ask("INFO", section))).values():
            facts |= part
        return facts


@contextmanager
def connected(address: str, known: Login | None = None, *, timeout: float = 10.0) -> Iterator[Administration]:
    """A connection that is tried once and closed afterwards.

    Arguments:
        address: `host:port` or `unix://path`.
        known: who logs in; None: nobody.
        timeout: seconds for connecting, and for each reply.
    """
    connection = Connection(Address.parse(address), min(timeout, 10.0))
    try:
        administration = Administration(connection, timeout)
        if known:
            administration.ask("AUTH", *(known if known.user else (known.password,)))
        yield administration
    finally:
        connection.close()


def text(value: Reply) -> str:
    """A string of a reply, or a number, as text."""
    return str(value) if isinstance(value, str | int) else bytes(value).decode("utf-8", "replace")
