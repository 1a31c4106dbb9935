"""SmartSim's loggers. What taskensemble says goes where they write."""

from __future__ import annotations

import logging
import os
import socket
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

DEFAULT_DATE_FORMAT = "%H:%M:%S"
DEFAULT_LOG_FORMAT = "%(asctime)s %(hostname)s %(name)s[%(process)d:%(threadName)s] %(levelname)s %(message)s"
NAME = "SmartSim"
LEVELS = {"quiet": "warning", "warning": "warning", "info": "info", "debug": "debug", "developer": "debug"}
"""What SMARTSIM_LOG_LEVEL says -> the level of Python's logging."""


ctx_exp_path: ContextVar[str | Path] = ContextVar("exp_path", default="")
"""Folder of the experiment that this context works for: what loggers say goes into files there as well. Empty: none."""


class ContextInjectingLogFilter(logging.Filter):
    """Tells each record the folder of the experiment that its context works for."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        record.exp_path = str(ctx_exp_path.get())
        return True


class ContextAwareLogger(logging.Logger):
    """A logger that also writes into the files of the experiment that its context works for (`get_exp_log_paths`)."""

    def _log(self, level: int, *args: Any, **kwargs: Any) -> None:
        if not ctx_exp_path.get():
            super()._log(level, *args, **kwargs)
            return
        out, error = get_exp_log_paths()
        context = "%(message)s {%(exp_path)s}"
        handlers = [
            log_to_exp_file(
                str(out), self, "debug", DEFAULT_LOG_FORMAT.replace("%(message)s", context), LowPassFilter()
            ),
            log_to_exp_file(str(error), self, "warning", DEFAULT_LOG_FORMAT.replace("%(message)s", context)),
        ]
        injecting = ContextInjectingLogFilter()
        self.addFilter(injecting)
        try:
            super()._log(level, *args, **kwargs)
        finally:
            self.removeFilter(injecting)
            for handler in handlers:
                self.removeHandler(handler)
                handler.close()


def get_exp_log_paths() -> tuple[Path, Path]:
    """The files of the context's experiment: of what is said, and of warnings and errors."""
    folder = Path(ctx_exp_path.get()) / ".smartsim" / "logs"
    return folder / "smartsim.out", folder / "smartsim.err"


class HostnameFilter(logging.Filter):
    """Tells each record the name of this host."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        if not hasattr(record, "hostname"):
            record.hostname = socket.gethostname()
        return True


class LowPassFilter(logging.Filter):
    """Lets records of a level and below pass."""

    def __init__(self, maximum_level: str = "INFO") -> None:
        super().__init__()
        self.max = maximum_level

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is of the level or below."""
        return record.levelno <= logging.getLevelNamesMapping()[self.max]


def _translate_log_level(user_log_level: str = "info") -> str:
    """The level of Python's logging for a level of SmartSim's; `info` for what is none."""
    return LEVELS.get(user_log_level.lower(), "info")


def get_logger(name: str, log_level: str | None = None, fmt: str | None = None) -> logging.Logger:
    """A logger that writes to standard output.

    Args:
        name: of the logger; at every level but `developer` they share the name SmartSim.
        log_level: of the logger; None: what SMARTSIM_LOG_LEVEL says (quiet, info, debug, developer; info by default).
        fmt: format of a line.
    """
    wanted = os.environ.get("SMARTSIM_LOG_LEVEL", "info")
    present = logging.getLoggerClass()
    logging.setLoggerClass(ContextAwareLogger)
    try:
        logger = logging.getLogger(name if wanted == "developer" else NAME)
    finally:
        logging.setLoggerClass(present)
    logger.setLevel((log_level or _translate_log_level(wanted)).upper())
    if not any(handler.get_name() == NAME for handler in logger.handlers):
        output = logging.StreamHandler(sys.stdout)
        output.set_name(NAME)
        output.addFilter(HostnameFilter())
        logger.addHandler(output)
        logger.propagate = False
    for handler in logger.handlers:
        if handler.get_name() == NAME:
            handler.setLevel(logger.level)
        if handler.get_name() == NAME and (fmt or handler.formatter is None):
            handler.setFormatter(logging.Formatter(fmt or DEFAULT_LOG_FORMAT, DEFAULT_DATE_FORMAT))
    return logger


def log_to_file(filename: str, log_level: str = "debug") -> None:
    """Write what SmartSim's and taskensemble's loggers say to a file as well, from a level upward."""
    handler = logging.FileHandler(filename, mode="w", encoding="utf-8")
    handler.addFilter(HostnameFilter())
    handler.setFormatter(logging.Formatter(DEFAULT_LOG_FORMAT, DEFAULT_DATE_FORMAT))
    handler.setLevel(_translate_log_level(log_level).upper())
    for name in (NAME, "taskensemble"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(min(logger.level or handler.level, handler.level))


def log_to_exp_file(
    filename: str,
    logger: logging.Logger,
    log_level: str = "warn",
    fmt: str | None = DEFAULT_LOG_FORMAT,
    log_filter: logging.Filter | None = None,
) -> logging.Handler:
    """Write what `logger` says to a file as well, from a level upward; the file's folder is made.

    Returns:
        logging.Handler: to be removed from the logger when it is enough.
    """
    Path(filename).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(filename, mode="a", encoding="utf-8")
    handler.addFilter(HostnameFilter())
    if log_filter:
        handler.addFilter(log_filter)
    handler.setFormatter(logging.Formatter(fmt, DEFAULT_DATE_FORMAT))
    handler.setLevel(log_level.upper())
    logger.addHandler(handler)
    return handler
