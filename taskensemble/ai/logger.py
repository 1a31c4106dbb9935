"""SmartRedis' logging for simulations: lines with a context and a time, into SR_LOG_FILE, down to SR_LOG_LEVEL.

Without SR_LOG_FILE they go to the standard output; SR_LOG_LEVEL is QUIET, INFO (the default), DEBUG or DEVELOPER.
"""

from __future__ import annotations

import enum
import os
import sys
import time

from .arguments import check_type
from .error import RedisRuntimeError


class SRLoggingLevel(enum.IntEnum):
    """How much is written: a line appears if its level is not above SR_LOG_LEVEL."""

    LLQuiet = 1
    LLInfo = 2
    LLDebug = 3
    LLDeveloper = 4


LLQuiet = SRLoggingLevel.LLQuiet
LLInfo = SRLoggingLevel.LLInfo
LLDebug = SRLoggingLevel.LLDebug
LLDeveloper = SRLoggingLevel.LLDeveloper

_LEVELS = {level.name.removeprefix("LL").upper(): level for level in SRLoggingLevel}


def log_data(context: str, level: SRLoggingLevel, data: str) -> None:
    """Write a line under a context, if the level is asked for."""
    _write(context, level, "", data)


def log_warning(context: str, level: SRLoggingLevel, data: str) -> None:
    """Write a line marked WARNING."""
    _write(context, level, "WARNING: ", data)


def log_error(context: str, level: SRLoggingLevel, data: str) -> None:
    """Write a line marked ERROR."""
    _write(context, level, "ERROR: ", data)


class SRObject:
    """What can log under a name of its own: a client, a dataset, a LogContext."""

    def __init__(self, context: str) -> None:
        check_type(context, "context", str)
        self._context = context

    def log_data(self, level: SRLoggingLevel, data: str) -> None:
        """Write a line under this object's name, if the level is asked for."""
        log_data(self._context, level, data)

    def log_warning(self, level: SRLoggingLevel, data: str) -> None:
        """Write a line marked WARNING under this object's name."""
        log_warning(self._context, level, data)

    def log_error(self, level: SRLoggingLevel, data: str) -> None:
        """Write a line marked ERROR under this object's name."""
        log_error(self._context, level, data)


class LogContext(SRObject):
    """A name to log under."""


def _write(context: str, level: SRLoggingLevel, mark: str, data: str) -> None:
    check_type(context, "context", str)
    check_type(level, "level", SRLoggingLevel)
    check_type(data, "data", str)
    if level > _LEVELS.get(os.environ.get("SR_LOG_LEVEL", "INFO").upper(), LLInfo):
        return
    line = f"{context}@{time.strftime('%H-%M-%S')}:{mark}{data}\n"
    path = os.environ.get("SR_LOG_FILE")
    if not path:
        sys.stdout.write(line)
        return
    try:
        with open(path, "a") as file:
            file.write(line)
    except OSError as error:
        raise RedisRuntimeError(f"Cannot write to file {path} (SR_LOG_FILE): {error}", "log") from None
