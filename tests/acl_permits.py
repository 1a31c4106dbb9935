"""Which commands a user of a Redis or Valkey server may give, as the server itself says."""

from __future__ import annotations

from typing import Any

import redis


def permitted(administrator: redis.Redis, user: str, key: str) -> set[str]:
    """Every command and subcommand of the server that `user` may give on `key`."""
    ask: Any = administrator.execute_command
    return {name for name in _commands(ask) if _is_permitted(ask, user, name, key)}


def of_category(administrator: redis.Redis, category: str) -> set[str]:
    """The commands and subcommands of an ACL category."""
    ask: Any = administrator.execute_command
    return {_text(name) for name in ask("ACL", "CAT", category)}


def _commands(ask: Any) -> set[str]:
    """All of them; of one that has subcommands these alone."""
    found: set[str] = set()
    for name in ask("COMMAND LIST"):
        below = {_text(each) for each in ask("COMMAND LIST", "FILTERBY", "PATTERN", f"{_text(name)}|*")}
        found |= below or {_text(name)}
    return found


def _is_permitted(ask: Any, user: str, name: str, key: str) -> bool:
    for count in range(8):
        try:
            return bool(ask("ACL DRYRUN", user, *name.split("|"), *[key] * count) == b"OK")
        except redis.ResponseError as error:
            if "rguments" not in str(error):  # too few, or too many for it
                raise
    return False


def _text(value: Any) -> str:
    return str(value.decode() if isinstance(value, bytes) else value).lower()
