"""What the client raises: SmartRedis' names, so that `except RedisReplyError` keeps working after the import has changed.

All of them are `taskensemble.errors.DatabaseError` and, as in SmartRedis, `RuntimeError`. Arguments of a wrong type raise
`TypeError`, values that no database could accept `ValueError`, missing files `FileNotFoundError`.
"""

from __future__ import annotations

from taskensemble.errors import DatabaseError

__all__ = [
    "RedisBadAllocError",
    "RedisConnectionError",
    "RedisDatabaseError",
    "RedisInternalError",
    "RedisKeyError",
    "RedisReplyError",
    "RedisRuntimeError",
    "RedisTimeoutError",
]


class RedisConnectionError(DatabaseError, RuntimeError):
    """The database could not be reached when the client was made."""


class RedisReplyError(DatabaseError, RuntimeError):
    """A call failed; the kinds below say how."""

    def __init__(self, text: str, method: str = "") -> None:
        super().__init__(f"{method} execution failed\n{text}" if method else text)


class RedisRuntimeError(RedisReplyError):
    """The database answered with an error, or the call could not be made as asked."""


class RedisBadAllocError(RedisReplyError):
    """Memory ran out."""


class RedisDatabaseError(RedisReplyError):
    """The connection broke and could not be made again within SR_CMD_TIMEOUT."""


class RedisInternalError(RedisReplyError):
    """The client met something that it does not understand."""


class RedisTimeoutError(RedisReplyError):
    """No reply came in time, or a request waited longer than SR_MODEL_TIMEOUT in the database's queue."""


class RedisKeyError(RedisReplyError):
    """A dataset, a field or an option of that name does not exist."""
