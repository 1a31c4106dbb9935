"""Programs on PATH, arguments as text, and the ML backends that are installed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable
from importlib.util import find_spec

BACKENDS = {"tensorflow": "tensorflow", "torch": "torch", "onnxruntime": "onnxruntime"}
"""SmartSim's name of a backend -> the package that it needs here."""


def installed_redisai_backends(backends_path: str | None = None) -> set[str]:  # noqa: ARG001  as SmartSim's
    """Which of tensorflow, torch and onnxruntime can run models.

    Args:
        backends_path: where a build of RedisAI would have them; it is not looked at.
    """
    return {name for name, package in BACKENDS.items() if find_spec(package) is not None}


def expand_exe_path(exe: str) -> str:
    """The full path of a program.

    Raises:
        TypeError: the file cannot be executed.
        FileNotFoundError: it is not there.
    """
    found = shutil.which(exe)
    if found:
        return os.path.abspath(found)
    if os.path.isfile(exe):
        raise TypeError(f"File, {exe}, is not an executable")
    raise FileNotFoundError(f"Could not locate executable {exe}")


def is_valid_cmd(command: str | None) -> bool:
    """Whether a program is there and can be executed."""
    return bool(command) and shutil.which(str(command)) is not None


def cat_arg_and_value(arg_name: str, value: str) -> str:
    """An argument and its value as a command line has them: `--long=value`, `-l value`."""
    if arg_name.startswith("--"):
        return f"{arg_name}={value}"
    if arg_name.startswith("-"):
        return f"{arg_name} {value}"
    return f"-{arg_name} {value}" if len(arg_name) == 1 else f"--{arg_name}={value}"


def delete_elements(dictionary: dict[str, object], key_list: Iterable[str]) -> None:
    """Take keys out of a dictionary; those that are not in it are passed over."""
    for key in key_list:
        dictionary.pop(key, None)


def create_short_id_str() -> str:
    """Seven characters that are new each time."""
    return str(uuid.uuid4())[:7]


def fmt_dict(value: dict[str, object]) -> str:
    """A line for each entry."""
    return "\n".join(f"\t{name} = {each}" for name, each in value.items())
