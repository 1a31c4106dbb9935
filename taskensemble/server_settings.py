"""Which configurations of a database server a user may set: its description checks them, and so does what starts the server."""

from __future__ import annotations

import re

from taskensemble.errors import InputError

OWN = frozenset(
    ("port", "bind", "unixsocket", "dir", "logfile", "daemonize", "loadmodule", "include", "pidfile", "cluster-enabled")
)
"""What a database decides by its own arguments."""

_KEY = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")


def check_server_setting(key: str, value: str) -> None:
    """Refuse what is no configuration of a server, or not the user's to set.

    Raises:
        InputError: such a key, or a value of several lines.
    """
    if not _KEY.fullmatch(key) or "\n" in value:
        raise InputError(
            f"{key!r}={value!r} is no configuration of a server: give a name as in valkey.conf and one line"
        )
    if key.lower() in OWN:
        raise InputError(f"{key!r} cannot be configured: the database sets it by its own arguments")
