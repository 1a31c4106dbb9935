"""Steps of Slurm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskensemble.settings import SrunSettings
from taskensemble.smartsim._core.launcher.step.step import BatchStep, RunStep

if TYPE_CHECKING:
    import os


class SrunStep(RunStep):
    """A program under `srun`."""

    managed = True
    variables = ("SLURM_JOB_ID",)

    def __init__(self, name: str, cwd: str | os.PathLike[str], run_settings: SrunSettings) -> None:
        super().__init__(name, cwd, run_settings)
        self._compound = run_settings.format_comma_sep_env_vars()[1]

    def get_launch_cmd(self) -> list[str]:
        """The command line: output to the step's files; variables whose values have commas in the environment of `srun`."""
        before = ["env", *self._compound] if self._compound else []
        return [*before, *super().get_launch_cmd()]

    def _placed(self, head: tuple[str, ...]) -> list[str]:
        output, error = self.get_output_files()
        own = [head[0], "--output", output, "--error", error, "--job-name", self.name]
        given = self.alloc and getattr(self.run_settings, "alloc", None) is None
        return [*own, *(["--jobid", str(self.alloc)] if given else []), *head[1:]]


class SbatchStep(BatchStep):
    """A job of Slurm's."""

    submit_options = ("--parsable",)


__all__ = ["SbatchStep", "SrunStep"]
