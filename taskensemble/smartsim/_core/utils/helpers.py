"""Programs on PATH, arguments as text, the ML backends that are installed, and what is called when a signal comes."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from importlib.util import find_spec
from types import FrameType

from taskensemble.errors import InputError

SignalHandler = Callable[[int, FrameType | None], object]

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


def encode_cmd(cmd: Sequence[str]) -> str:
    """A command line as one word of base64.

    Raises:
        ValueError: it is empty.
    """
    if not cmd:
        raise InputError("cmd=[]: Invalid cmd supplied; give a program and its arguments")
    return base64.b64encode("|".join(cmd).encode()).decode("ascii")


def decode_cmd(encoded_cmd: str) -> list[str]:
    """What `encode_cmd` was given.

    Raises:
        ValueError: there is nothing.
    """
    if not encoded_cmd:
        raise InputError("encoded_cmd='': Invalid cmd supplied; give what encode_cmd returned")
    return base64.b64decode(encoded_cmd).decode().split("|")


def get_ts_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def unpack_db_identifier(db_id: str, token: str) -> tuple[str, str]:
    """The end of a database's environment variables, and its name there: both empty for the unnamed one."""
    return ("", "") if db_id == "orchestrator" else (token + db_id, db_id)


def unpack_colo_db_identifier(db_id: str) -> str:
    """The end of a colocated database's environment variables."""
    return f"_{db_id}" if db_id else ""


class SignalInterceptionStack(Collection[SignalHandler]):
    """Functions that are called when a signal comes, the latest first, and after them the handler that was there before.

    Use `get`: making another one puts it before the one that is there.
    """

    def __init__(self, signalnum: int, callbacks: Iterable[SignalHandler] | None = None) -> None:
        self._callbacks = list(callbacks or ())
        self._original = signal.signal(signalnum, self)

    def __call__(self, signalnum: int, frame: FrameType | None) -> None:
        for function in self:
            function(signalnum, frame)
        if callable(self._original):
            self._original(signalnum, frame)

    def __contains__(self, function: object) -> bool:
        return function in self._callbacks

    def __iter__(self) -> Iterator[SignalHandler]:
        return reversed(self._callbacks)

    def __len__(self) -> int:
        return len(self._callbacks)

    @classmethod
    def get(cls, signalnum: int) -> SignalInterceptionStack:
        """That of a signal, which is made if there is none."""
        handler = signal.getsignal(signalnum)
        return handler if isinstance(handler, cls) else cls(signalnum)

    def push(self, fn: SignalHandler) -> None:
        """Let a function be called before those that are there."""
        self._callbacks.append(fn)

    def push_unique(self, fn: SignalHandler) -> bool:
        """The same, unless it is among them already: whether it was not."""
        new = fn not in self
        if new:
            self.push(fn)
        return new
