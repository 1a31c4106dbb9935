"""Batch settings: what a batch job asks the scheduler for, and the lines at the head of its script."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from taskensemble.engine.allocation import BatchRecord, Scheduler
from taskensemble.errors import InputError, InputTypeError
from taskensemble.settings.arguments import executable_or_same, integer, table
from taskensemble.settings.run import SettingsBase


class BatchSettings(SettingsBase, ABC):
    """What a batch job asks for.

    Parameters:
        batch_cmd: the command that submits.
        batch_args: further options of it, by name without dashes; None: an option without a value.
        nodes, time, queue, account: the common ones; they win over the same in `batch_args`. Unknown keywords are ignored, so
            that one call serves several schedulers.
        requeue: how many further jobs are asked for when one ends (walltime, preemption) before its members have.
    """

    scheduler: ClassVar[Scheduler]
    """Whose script the headers are for."""
    common: ClassVar[tuple[str, ...]] = ("nodes", "time", "queue", "account", "requeue")
    """Arguments of every class, whatever further ones it names."""

    def __init__(self, batch_cmd: str, batch_args: Mapping[str, str | None] | None = None, **common: Any) -> None:
        self._batch_cmd = batch_cmd
        self.batch_args = dict(batch_args or {})
        self._preamble: list[str] = []
        self.requeue = integer("requeue", common.get("requeue", 0))
        if self.requeue < 0:
            raise InputError(f"requeue={self.requeue} must be 0 or more")
        if common.get("nodes"):
            self.set_nodes(common["nodes"])
        if common.get("time"):
            self.set_walltime(common["time"])
        if common.get("queue"):
            self.set_queue(common["queue"])
        if common.get("account"):
            self.set_account(common["account"])

    @property
    def batch_cmd(self) -> str:
        """The command that submits: its full path where it is found here, else as given."""
        return executable_or_same(self._batch_cmd)

    def set_batch_command(self, command: str) -> None:
        """Submit with another command."""
        self._batch_cmd = command

    @property
    def batch_args(self) -> dict[str, str | None]:
        """Options of the batch command, by name without dashes."""
        return self._batch_args

    @batch_args.setter
    def batch_args(self, value: Mapping[str, str | None] | None) -> None:
        self._batch_args = copy.deepcopy(dict(value or {}))

    def add_preamble(self, lines: str | list[str]) -> None:
        """Append lines that the script runs before anything else: `module load …`, an environment's activation.

        Raises:
            InputTypeError: neither a str nor a list of str.
        """
        new = [lines] if isinstance(lines, str) else lines
        if not isinstance(new, list) or not all(isinstance(line, str) for line in new):
            raise InputTypeError(f"lines={lines!r} must be a str or a list of str")
        self._preamble += new

    @property
    def preamble(self) -> Iterable[str]:
        """The lines of the preamble."""
        return iter(tuple(self._preamble))

    @abstractmethod
    def set_nodes(self, num_nodes: int) -> None:
        """Nodes of the allocation."""

    @abstractmethod
    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts of the allocation."""

    @abstractmethod
    def set_queue(self, queue: str) -> None:
        """The queue (Slurm: partition) to submit to."""

    @abstractmethod
    def set_walltime(self, walltime: str) -> None:
        """Longest time of the job, in the scheduler's format."""

    @property
    @abstractmethod
    def walltime_seconds(self) -> float | None:
        """Longest time of the job in seconds; None: it is not said, or not in a form that is known."""

    @abstractmethod
    def set_account(self, account: str) -> None:
        """The account (LSF: project) that pays."""

    @abstractmethod
    def format_batch_args(self) -> list[str]:
        """The options as the lines of a script have them."""

    @abstractmethod
    def headers(self, name: str, output: str, error: str) -> list[str]:
        """The first lines of the job's script: shebang and directives.

        Parameters:
            name: the job's name.
            output, error: files for what the job prints.
        """

    def record(self) -> BatchRecord:
        """What the launcher needs to submit such a job."""
        return BatchRecord(
            scheduler=self.scheduler,
            submit=self.batch_cmd,
            headers=tuple(self.headers("{name}", "{output}", "{error}")),
            preamble=tuple(self.preamble),
            requeue=self.requeue,
            walltime=self.walltime_seconds,
        )

    def __str__(self) -> str:
        lines = [f"Batch Command: {self._batch_cmd}"]
        if self.batch_args:
            lines.append(f"Batch arguments:\n{table(self.batch_args)}")
        return "\n".join(lines)
