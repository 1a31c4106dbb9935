"""Administrative connections to servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from taskensemble.ai.administration import parse_info
from taskensemble.ai.resp import Address, Argument, Connection, Reply, ReplyError

Refused = (ReplyError, OSError)
"""What a command on an administrative connection raises: the server's error, or a connection that fails."""


def credentials(password: str | None) -> tuple[str, str] | None:
    """User and password of an address record: its password is `user:password`, or the default user's alone."""
    if not password:
        return None
    user, colon, secret = password.partition(":")
    return (user, secret) if colon else ("", password)


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
def connected(address: str, password: str | None = None, *, timeout: float = 10.0) -> Iterator[Administration]:
    """A connection that is tried once and closed afterwards.

    Arguments:
        address: `host:port` or `unix://path`.
        password: as in an address record.
        timeout: seconds for connecting, and for each reply.
    """
    connection = Connection(Address.parse(address), min(timeout, 10.0))
    try:
        administration = Administration(connection, timeout)
        known = credentials(password)
        if known:
            user, secret = known
            administration.ask("AUTH", *((user, secret) if user else (secret,)))
        yield administration
    finally:
        connection.close()


def text(value: Reply) -> str:
    """A string of a reply, or a number, as text."""
    return str(value) if isinstance(value, str | int) else bytes(value).decode("utf-8", "replace")
