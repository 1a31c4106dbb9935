"""Which step settings make, by launcher."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar, Never

from taskensemble.errors import UnsupportedError
from taskensemble.settings import (
    AprunSettings,
    BsubBatchSettings,
    JsrunSettings,
    MpiexecSettings,
    MpirunSettings,
    OrterunSettings,
    PalsMpiexecSettings,
    QsubBatchSettings,
    RunSettings,
    SbatchSettings,
    SettingsBase,
    SgeQsubBatchSettings,
    SrunSettings,
)
from taskensemble.smartsim._core.launcher.step import (
    AprunStep,
    BsubBatchStep,
    JsrunStep,
    LocalStep,
    MpiexecStep,
    MpirunStep,
    OrterunStep,
    QsubBatchStep,
    SbatchStep,
    SgeQsubBatchStep,
    SrunStep,
    Step,
)

Steps = dict[type[SettingsBase], type[Step]]

_MPI: Steps = {MpiexecSettings: MpiexecStep, MpirunSettings: MpirunStep, OrterunSettings: OrterunStep}


class Launcher:
    """Makes steps of settings."""

    supported_rs: ClassVar[Steps] = {}
    """Settings -> the step that they make."""

    def create_step(self, name: str, cwd: str | os.PathLike[str], step_settings: SettingsBase) -> Step:
        """The step of settings in a folder.

        Raises:
            UnsupportedError: settings of another launcher's.
            AllocationError: they need an allocation, and there is none.
        """
        kind = type(step_settings)
        if kind not in self.supported_rs:
            raise UnsupportedError(
                f"{name!r}: RunSettings type {kind} not supported by {type(self).__name__}; it knows "
                f"{', '.join(each.__name__ for each in self.supported_rs)}"
            )
        return self.supported_rs[kind](name, cwd, step_settings)

    def run(self, step: Step) -> Never:
        """Not here.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"{type(self).__name__}.run({step.entity_name!r}): taskensemble has no launchers; use start"
        )

    def stop(self, step_name: str) -> Never:
        """Not here.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(f"{type(self).__name__}.stop({step_name!r}): taskensemble has no launchers; use stop")


@dataclass
class TaskManager:
    """Stands for the thread by which SmartSim watches processes. Here workers watch them: there is no thread to switch off."""

    actively_monitoring: bool = False


class LocalLauncher(Launcher):
    """Of this machine."""

    supported_rs: ClassVar[Steps] = {RunSettings: LocalStep}

    def __init__(self) -> None:
        self.task_manager = TaskManager()

    def create_step(self, name: str, cwd: str | os.PathLike[str], step_settings: SettingsBase) -> Step:
        """The step of run settings, whatever their run command."""
        if isinstance(step_settings, RunSettings):
            return LocalStep(name, cwd, step_settings)
        return super().create_step(name, cwd, step_settings)


class SlurmLauncher(Launcher):
    """Of Slurm."""

    supported_rs: ClassVar[Steps] = {
        SrunSettings: SrunStep,
        SbatchSettings: SbatchStep,
        **_MPI,
        RunSettings: LocalStep,
    }


class PBSLauncher(Launcher):
    """Of PBS."""

    supported_rs: ClassVar[Steps] = {
        AprunSettings: AprunStep,
        QsubBatchSettings: QsubBatchStep,
        **_MPI,
        PalsMpiexecSettings: MpiexecStep,
        RunSettings: LocalStep,
    }


class LSFLauncher(Launcher):
    """Of LSF."""

    supported_rs: ClassVar[Steps] = {
        JsrunSettings: JsrunStep,
        BsubBatchSettings: BsubBatchStep,
        **_MPI,
        RunSettings: LocalStep,
    }


class SGELauncher(Launcher):
    """Of Grid Engine."""

    supported_rs: ClassVar[Steps] = {
        SgeQsubBatchSettings: SgeQsubBatchStep,
        **_MPI,
        PalsMpiexecSettings: MpiexecStep,
        RunSettings: LocalStep,
    }
