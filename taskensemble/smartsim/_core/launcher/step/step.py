"""Command lines of run settings and batch settings, with the files that their output goes to.

Nothing here starts anything: a worker starts `RunSettings.command()`, and `taskensemble.launch` submits batch jobs. A step is for
scripts that want to see, or run themselves, what settings amount to.
"""

from __future__ import annotations

import copy
import itertools
import os
import shlex
from pathlib import Path
from typing import Any

from taskensemble.errors import AllocationError, UnsupportedError
from taskensemble.settings import BatchSettings, RunSettings, SettingsBase

_NUMBERS = itertools.count()


class Step:
    """Settings in a folder.

    Attributes:
        name: unlike that of any other step.
        entity_name: what it was made with.
        cwd: the folder.
        step_settings: a copy of the settings.
        meta: `status_dir`, the folder of its output, is read from here.
        managed: whether a scheduler starts it.
    """

    managed = False

    def __init__(self, name: str, cwd: str | os.PathLike[str], step_settings: SettingsBase) -> None:
        self.entity_name = name
        self.name = self._create_unique_name(name)
        self.cwd = os.fspath(cwd)
        self.step_settings = copy.deepcopy(step_settings)
        self.meta: dict[str, Any] = {}

    @staticmethod
    def _create_unique_name(name: str) -> str:
        return f"{name}-{os.getpid()}-{next(_NUMBERS)}"

    def get_launch_cmd(self) -> list[str]:
        """The command line.

        Raises:
            NotImplementedError: here; the classes for each run command and scheduler have one.
        """
        raise NotImplementedError(
            f"{type(self).__name__} of {self.entity_name!r}: make it with a launcher's create_step"
        )

    def get_output_files(self) -> tuple[str, str]:
        """The files of its output and its errors, in `meta["status_dir"]`, which is made.

        Raises:
            KeyError: `meta` has no `status_dir`.
        """
        if "status_dir" not in self.meta:
            raise KeyError("Status directory for this step has not been set: meta['status_dir']")
        folder = Path(self.meta["status_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        return os.fspath(folder / f"{self.entity_name}.out"), os.fspath(folder / f"{self.entity_name}.err")

    def get_step_file(self, ending: str = ".sh", script_name: str | None = None) -> str:
        """A file of the step's in its folder."""
        name = script_name or self.entity_name
        return os.path.join(self.cwd, name if script_name and "." in script_name else name + ending)

    def add_to_batch(self, step: Step) -> None:
        """Let a batch step run another one.

        Raises:
            UnsupportedError: this is no batch step.
        """
        raise UnsupportedError(f"{type(self).__name__}.add_to_batch({step.entity_name!r}): only batch steps run others")


class RunStep(Step):
    """Run settings: the command line that a worker starts."""

    variables: tuple[str, ...] = ()
    """Of an allocation, one of which must be set unless the step is in a batch; none: it needs no allocation."""

    def __init__(self, name: str, cwd: str | os.PathLike[str], run_settings: RunSettings) -> None:
        super().__init__(name, cwd, run_settings)
        self.run_settings = run_settings
        given: str | int | None = getattr(run_settings, "alloc", None)
        found = next((os.environ[each] for each in self.variables if each in os.environ), None)
        self.alloc = None if run_settings.in_batch else given or found
        if self.variables and not run_settings.in_batch and not self.alloc:
            raise AllocationError(
                f"No allocation specified or found and not running in batch: {name!r} needs one of {', '.join(self.variables)}"
            )

    def get_launch_cmd(self) -> list[str]:
        """The command line that a worker starts, with the folder where the run command takes one."""
        command = self.run_settings.command()
        return [*self._placed(command.head), *command.tail]

    def _placed(self, head: tuple[str, ...]) -> list[str]:
        return list(head)


class BatchStep(Step):
    """Batch settings: a script with the scheduler's options that runs other steps at the same time."""

    managed = True
    submit_options: tuple[str, ...] = ()

    def __init__(self, name: str, cwd: str | os.PathLike[str], batch_settings: BatchSettings) -> None:
        super().__init__(name, cwd, batch_settings)
        self.batch_settings = batch_settings
        self.step_cmds: list[list[str]] = []

    def add_to_batch(self, step: Step) -> None:
        """Let the script run a step."""
        self.step_cmds.append(["cd", step.cwd, ";", *step.get_launch_cmd()])

    def get_launch_cmd(self) -> list[str]:
        """The command that submits the script, which is written to the step's folder."""
        lines = [f"(cd {shlex.quote(folder)} && {shlex.join(line)}) &" for _, folder, _, *line in self.step_cmds]
        output, error = self.get_output_files()
        script = Path(self.get_step_file())
        script.write_text(
            self.batch_settings.record().script(self.name, output, error, (*lines, "wait")), encoding="utf-8"
        )
        return [self.batch_settings.batch_cmd, *self.submit_options, str(script)]
