"""Checks of arguments, and the two ways in which run commands and schedulers write options."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping

from taskensemble.errors import InputError, InputTypeError

OptionValue = str | int | float | None
"""What an option of a run command or a batch command may have; None: an option without a value."""


def find_executable(exe: str) -> str:
    """The absolute path of a program, looked up on PATH first.

    Raises:
        FileNotFoundError: there is no such program.
        InputTypeError: there is such a file, but it is not executable.
    """
    found = shutil.which(exe)
    if found:
        return os.path.abspath(found)
    if os.path.isfile(exe):
        raise InputTypeError(f"exe={exe!r} is a file but not an executable one; make it executable: chmod +x {exe}")
    raise FileNotFoundError(
        f"exe={exe!r} was not found on PATH or as a file; give its full path, or load its module first"
    )


def executable_or_same(command: str) -> str:
    """The absolute path of a command, or the command as given: it may exist on the compute nodes only."""
    found = shutil.which(command)
    return os.path.abspath(found) if found else command


def integer(name: str, value: object) -> int:
    """`value` as an integer; text with an integer in it is taken.

    Raises:
        InputTypeError: it is neither a number nor text.
        InputError: it is no integer.
    """
    try:
        number = int(value)  # type: ignore[call-overload]
    except TypeError:
        raise InputTypeError(f"{name}={value!r} is a {type(value).__name__}; give an int") from None
    except ValueError:
        number = None
    if number is None or (isinstance(value, float) and value != number):
        raise InputError(f"{name}={value!r} is not a whole number; give an int")
    return int(number)


def integers(name: str, value: int | Iterable[int]) -> list[int]:
    """One integer or several, as a list."""
    return [integer(name, item) for item in ([value] if isinstance(value, (int, str)) else value)]


def host_names(value: str | list[str], name: str = "host_list") -> list[str]:
    """One host name or a list of them, as a list.

    Raises:
        InputTypeError: anything else.
    """
    hosts = [value.strip()] if isinstance(value, str) else value
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise InputTypeError(f"{name}={value!r} must be a str or a list of str: the names of hosts")
    return list(hosts)


def argument_list(name: str, value: str | list[str] | None) -> list[str]:
    """Arguments of a program: a str is split by shell rules, a list is copied.

    Raises:
        InputTypeError: anything else than a str or a list of str.
    """
    if not value:
        return []
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise InputError(
                f"{name}={value!r} cannot be split by shell rules ({error}); give a list of str"
            ) from error
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return list(value)
    raise InputTypeError(f"{name}={value!r} must be a str or a list of str; write numbers as text")


def gnu_options(options: Mapping[str, OptionValue]) -> list[str]:
    """Options as srun, sbatch, aprun and jsrun read them: `-C x` for one letter, `--nodes=2` for more."""
    formatted: list[str] = []
    for option, value in options.items():
        dashes = "-" if len(option) == 1 else "--"
        if is_flag(value):
            formatted.append(f"{dashes}{option}")
        elif len(option) == 1:
            formatted += [f"-{option}", str(value)]
        else:
            formatted.append(f"--{option}={value}")
    return formatted


def spaced_options(options: Mapping[str, OptionValue]) -> list[str]:
    """Options as MPI launchers read them: `--n 2`, always two items."""
    formatted: list[str] = []
    for option, value in options.items():
        formatted.append(f"--{option}")
        if not is_flag(value):
            formatted.append(str(value))
    return formatted


def is_flag(value: OptionValue) -> bool:
    """Whether an option stands alone. A number 0 is a value: `--mem=0` asks for a node's whole memory."""
    return value is None or value == ""


def first_integer(options: Mapping[str, OptionValue], *names: str) -> int | None:
    """The first of the named options that holds a whole number."""
    for name in names:
        text = str(options.get(name, ""))
        if text.isdigit():
            return int(text)
    return None


def clock(seconds: int) -> str:
    """Seconds as HH:MM:SS; hours may pass 99."""
    hours, rest = divmod(seconds, 3600)
    return f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}"


def clock_seconds(text: str) -> float | None:
    """Seconds of `90`, `MM:SS` or `HH:MM:SS`; None: it is none of these."""
    parts = text.split(":")
    if len(parts) > 3 or not all(part.isdigit() for part in parts):
        return None
    total = 0
    for part in parts:
        total = total * 60 + int(part)
    return float(total)


def table(options: Mapping[str, object]) -> str:
    """Options one a line, for printing settings."""
    return "\n".join(f"\t{name} = {value}" for name, value in options.items())
