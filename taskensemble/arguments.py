"""Arguments of `Experiment` and its factories: read, or refused in words that name the argument and what to give."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from taskensemble.errors import InputError, InputTypeError, UnsupportedError
from taskensemble.trees import check_path

if TYPE_CHECKING:
    from taskensemble.settings import BatchSettings, RunSettings

LAUNCHERS = ("local", "slurm", "pbs", "pals", "lsf", "sge", "auto")


def experiment_path(name: str, exp_path: str | os.PathLike[str] | None) -> str:
    """The experiment's folder, absolute; a given one must exist."""
    if exp_path is None:
        return check_path(os.path.join(os.getcwd(), name), "the current folder, exp_path")
    if not isinstance(exp_path, (str, os.PathLike)):
        raise InputTypeError(f"exp_path={exp_path!r} is a {type(exp_path).__name__}; give a path.")
    path = os.path.abspath(exp_path)
    if not os.path.isdir(path):
        raise NotADirectoryError(f"exp_path={str(exp_path)!r} is no folder: make it first, or leave exp_path out.")
    return check_path(path, "exp_path")


def chosen_launcher(launcher: str) -> str:
    """One of `LAUNCHERS` but auto, which is the first that is found here."""
    if not isinstance(launcher, str):
        raise InputTypeError(
            f"launcher={launcher!r} is a {type(launcher).__name__}; give one of {', '.join(LAUNCHERS)}."
        )
    chosen = launcher.lower()
    if chosen not in LAUNCHERS:
        raise UnsupportedError(f"launcher={launcher!r} is not supported; use one of {', '.join(LAUNCHERS)}.")
    if chosen == "auto":
        from taskensemble.settings import detect_launcher

        return detect_launcher()
    return chosen


def seconds_of(name: str, seconds: float, least: float, meaning: str) -> float:
    """Seconds, `least` or more; `meaning` says in a refusal what they do."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InputTypeError(f"{name}={seconds!r} is a {type(seconds).__name__}; give seconds; {meaning}.")
    if not least <= seconds < float("inf"):
        raise InputError(f"{name}={seconds}; give seconds, {least:g} or more; {meaning}.")
    return float(seconds)


def slots_of(slots: int | None) -> int | None:
    """How many slots; None: as many as cores."""
    if slots is None:
        return None
    if isinstance(slots, bool) or not isinstance(slots, int):
        raise InputTypeError(f"slots={slots!r} is a {type(slots).__name__}; give a whole number of 1 or more.")
    if slots < 1:
        raise InputError(f"slots={slots}; give 1 or more, or leave it out for as many as cores.")
    return slots


def bytes_of(value: int | str) -> int:
    """Bytes."""
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = re.fullmatch(r"([1-9]\d*)\s*([KMG]?)(?:i?B)?", value, re.IGNORECASE) if isinstance(value, str) else None
    if match is None:
        raise InputError(f"transfer_limit={value!r}; give bytes as a whole number, or text such as '512M' or '2G'.")
    return int(match[1]) * units[match[2].upper()]


def settings_given(
    settings: RunSettings | BatchSettings, run_settings: RunSettings | None, batch_settings: BatchSettings | None
) -> tuple[RunSettings | None, BatchSettings | None]:
    """Run and batch settings, one of which was given by position."""
    from taskensemble.settings import RunSettings

    if isinstance(settings, RunSettings):
        if run_settings is not None:
            raise InputTypeError("run_settings was given twice, by position and by name; give it once.")
        return settings, batch_settings
    if batch_settings is not None:
        raise InputTypeError("batch_settings was given twice, by position and by name; give it once.")
    return run_settings, settings
