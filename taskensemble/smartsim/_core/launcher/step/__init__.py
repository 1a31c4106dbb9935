"""Command lines of settings."""

from taskensemble.smartsim._core.launcher.step.alpsStep import AprunStep
from taskensemble.smartsim._core.launcher.step.localStep import LocalStep
from taskensemble.smartsim._core.launcher.step.lsfStep import BsubBatchStep, JsrunStep
from taskensemble.smartsim._core.launcher.step.mpiStep import MpiexecStep, MpirunStep, OrterunStep
from taskensemble.smartsim._core.launcher.step.pbsStep import QsubBatchStep
from taskensemble.smartsim._core.launcher.step.sgeStep import SgeQsubBatchStep
from taskensemble.smartsim._core.launcher.step.slurmStep import SbatchStep, SrunStep
from taskensemble.smartsim._core.launcher.step.step import Step

__all__ = [
    "AprunStep",
    "BsubBatchStep",
    "JsrunStep",
    "LocalStep",
    "MpiexecStep",
    "MpirunStep",
    "OrterunStep",
    "QsubBatchStep",
    "SbatchStep",
    "SgeQsubBatchStep",
    "SrunStep",
    "Step",
]
