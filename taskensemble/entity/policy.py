"""What a member may use and what happens around its attempts: the policy keywords of models and ensembles."""

from __future__ import annotations

import datetime
import difflib
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from taskensemble.errors import InputError, InputTypeError

OTHER_KEYWORDS = (
    "batch_settings", "depends_on", "enable_key_prefixing", "n_models", "params", "params_as_args", "path", "perm_strategy",
    "replicas", "resources", "run_settings", "samples", "seed",
)  # fmt: skip
"""What the factories take besides the policy: a misspelt one arrives here."""
_UNITS = {"": 1, "M": 1, "G": 1024, "T": 1024**2}


@dataclass(frozen=True)
class Resources:
    """The share of a node that a member holds while it runs.

    Attributes:
        cpus: CPUs; None: as many as the run settings ask for on a node, else 1.
        gpus: whole GPUs, or a fraction of one.
        memory: MiB, or text such as "4G"; 0: not limited.
        whole_node: nothing else runs beside it.
        nodes: of an allocation, each with these CPUs, GPUs and memory; None: as many as the run settings ask for, else 1.
        tags: a worker must carry all of them.
        time: what a member needs at least, as seconds, "HH:MM:SS" or a timedelta: a worker whose job or `--time-limit` ends
            earlier does not begin it; 0: every worker does. What ends a member that takes too long is `walltime=`.
    """

    cpus: int | None = None
    gpus: float = 0.0
    memory: int | str = 0
    whole_node: bool = False
    tags: tuple[str, ...] = ()
    nodes: int | None = None
    time: float | str | datetime.timedelta = 0.0

    def __post_init__(self) -> None:
        if self.nodes is not None and (not _whole(self.nodes) or self.nodes < 1):
            raise InputError(f"resources: nodes={self.nodes!r}; give a whole number of 1 or more")
        if self.cpus is not None and (not _whole(self.cpus) or self.cpus < 1):
            raise InputError(f"resources: cpus={self.cpus!r}; give a whole number of 1 or more")
        if isinstance(self.gpus, bool) or not isinstance(self.gpus, (int, float)) or not 0 <= self.gpus < math.inf:
            raise InputError(f"resources: gpus={self.gpus!r}; give 0 or more, or a fraction of one GPU")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise InputError(f"resources: gpus={self.gpus!r}; several GPUs are whole ones, only one can be shared")
        object.__setattr__(self, "memory", _mebibytes(self.memory))
        object.__setattr__(self, "time", seconds("resources: time", self.time))
        if isinstance(self.tags, str):
            object.__setattr__(self, "tags", (self.tags,))
        tags = tuple(self.tags)
        for tag in tags:
            if not isinstance(tag, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", tag):
                raise InputError(f"resources: the tag {tag!r} is not made of letters, digits, '_' and '-'")
        object.__setattr__(self, "tags", tags)

    @property
    def memory_mb(self) -> int:
        """The memory in MiB; 0: not limited."""
        return int(self.memory)

    @property
    def seconds(self) -> float:
        """The time in seconds; 0: however short."""
        return float(self.time)  # type: ignore[arg-type]

    @classmethod
    def of(cls, given: Resources | Mapping[str, Any] | None) -> Resources:
        """Resources from a dict of their names, which is how `resources=` is usually given.

        Raises:
            InputError, InputTypeError: an unknown name, or a value that cannot be used.
        """
        if given is None:
            return cls()
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise InputTypeError(f"resources: {given!r} is a {type(given).__name__}; give a dict such as {{'cpus': 2}}")
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in names:
                raise InputError(f"resources: {name!r} is unknown; use {', '.join(names)}")
        return cls(**given)


@dataclass(frozen=True)
class Policy:
    """What happens around the attempts of a member, and around the failures of an entity.

    Attributes:
        retries: further attempts that a failed member gets.
        retry_delay: seconds before each.
        retry_on: exit codes that are retried (a negative one is a signal); None: any but 0.
        restart_args: arguments that replace the program's own from the second attempt on; text is split by shell rules.
        walltime: seconds, "HH:MM:SS" or a timedelta, after which a member is ended.
        warn_before: SIGUSR1 goes to the member so many seconds before its walltime.
        grace: seconds between SIGTERM and SIGKILL.
        on_failure: "continue", "stop" (cancel the rest of the entity), or the number of failures to stop after.
        enough: stop the rest once so many members have completed.
        keep_outputs: "all", or "failed" to delete the output files of completed members.
        output_limit: most bytes kept of each output file.
    """

    retries: int = 0
    retry_delay: float = 0.0
    retry_on: frozenset[int] | None = None
    restart_args: tuple[str, ...] | None = None
    walltime: float | None = None
    warn_before: float | None = None
    grace: float = 10.0
    on_failure: str = "continue"
    enough: int | None = None
    keep_outputs: Literal["all", "failed"] = "all"
    output_limit: int | None = None

    @classmethod
    def of(cls, **given: Any) -> Policy:
        """A policy from keywords as a user writes them.

        Raises:
            InputError, InputTypeError: a value that cannot be used; the message names the keyword.
        """
        known = {field.name for field in fields(cls)}
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, [*known, *OTHER_KEYWORDS], 1)
                hint = f"did you mean {near[0]}? The" if near else "the"
                raise InputTypeError(f"unknown keyword {name!r}; {hint} policy keywords are {', '.join(sorted(known))}")
        values = {name: value for name, value in given.items() if value is not None}
        for name in ("retries", "enough", "output_limit"):
            if name in values:
                values[name] = _count(name, values[name], least=0 if name == "retries" else 1)
        for name in ("retry_delay", "walltime", "warn_before", "grace"):
            if name in values:
                values[name] = seconds(name, values[name])
        if "retry_on" in values:
            values["retry_on"] = _codes(values["retry_on"])
        if "restart_args" in values:
            values["restart_args"] = _arguments(values["restart_args"])
        if "on_failure" in values:
            values["on_failure"] = _on_failure(values["on_failure"])
        if values.get("keep_outputs", "all") not in ("all", "failed"):
            raise InputError(f"keep_outputs={values['keep_outputs']!r}; use 'all' or 'failed'")
        policy = cls(**values)
        if policy.walltime == 0:
            raise InputError("walltime=0: no member could run; give a time, or leave it out")
        if policy.warn_before is not None and (policy.walltime is None or policy.warn_before >= policy.walltime):
            raise InputError(
                f"warn_before={policy.warn_before:g} needs a walltime that is longer (walltime={given.get('walltime')!r})"
            )
        for name in ("retry_on", "restart_args", "retry_delay"):
            if values.get(name) and not policy.retries:
                raise InputError(f"{name}={given[name]!r} has no effect without retries; give retries=1 or more")
        return policy


def seconds(name: str, value: object) -> float:
    """A length of time in seconds, from seconds, "HH:MM:SS", "MM:SS" or a timedelta.

    Raises:
        InputError, InputTypeError: it is none of these, or negative.
    """
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if isinstance(value, str):
        parts = value.split(":")
        if not 2 <= len(parts) <= 3 or not all(part.isdigit() for part in parts):
            raise InputError(f"{name}={value!r}; give seconds as a number, or text such as '01:30:00'")
        total = 0
        for part in parts:
            total = total * 60 + int(part)
        return float(total)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputTypeError(f"{name}={value!r} is a {type(value).__name__}; give seconds, 'HH:MM:SS' or a timedelta")
    if not 0 <= value < math.inf:
        raise InputError(f"{name}={value!r}; give 0 seconds or more")
    return float(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(name: str, value: object, least: int) -> int:
    if not _whole(value):
        raise InputTypeError(f"{name}={value!r} is a {type(value).__name__}; give a whole number")
    if value < least:  # type: ignore[operator]
        raise InputError(f"{name}={value!r}; give {least} or more")
    return value  # type: ignore[return-value]


def _codes(value: object) -> frozenset[int]:
    codes = [value] if _whole(value) else value
    if isinstance(codes, (str, bytes)) or not isinstance(codes, Iterable):
        raise InputTypeError(f"retry_on={value!r}; give exit codes, such as {{75, -9}}")
    listed = list(codes)
    for code in listed:
        if not _whole(code):
            raise InputTypeError(f"retry_on: {code!r} is no exit code; give whole numbers, a signal as a negative one")
        if code == 0:
            raise InputError("retry_on: 0 is success and cannot be retried")
        if not -64 <= code <= 255:
            raise InputError(f"retry_on: {code} is no exit code; they are 1 to 255, a signal is -1 to -64")
    return frozenset(listed)


def _arguments(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(shlex.split(value))
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise InputTypeError(f"restart_args={value!r}; give text or a list of texts")
    return tuple(value)


def _on_failure(value: object) -> str:
    if value in ("continue", "stop"):
        return str(value)
    if _whole(value) and value >= 1:  # type: ignore[operator]
        return f"stop:{value}"
    if isinstance(value, str) and re.fullmatch(r"stop:[1-9]\d*", value):
        return value
    raise InputError(f"on_failure={value!r}; use 'continue', 'stop', or the number of failures to stop after")


def _mebibytes(value: object) -> int:
    if _whole(value) and value >= 0:  # type: ignore[operator]
        return value  # type: ignore[return-value]
    match = (
        re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]?)(?:i?B)?", value, re.IGNORECASE) if isinstance(value, str) else None
    )
    if match is None:
        raise InputError(f"resources: memory={value!r}; give MiB as a whole number, or text such as '512M' or '4G'")
    return math.ceil(float(match[1]) * _UNITS[match[2].upper()])
