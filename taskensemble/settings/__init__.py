"""Run settings and batch settings: descriptions that render command lines and batch scripts and run none of them."""

from taskensemble.settings.alps import AprunSettings
from taskensemble.settings.batch import BatchSettings
from taskensemble.settings.choose import (
    LAUNCHERS,
    check_supported,
    create_batch_settings,
    create_run_settings,
    detect_launcher,
)
from taskensemble.settings.containers import Container, Singularity
from taskensemble.settings.lsf import BsubBatchSettings, JsrunSettings
from taskensemble.settings.mpi import MpiexecSettings, MpirunSettings, MpiSettings, OrterunSettings
from taskensemble.settings.pals import PalsMpiexecSettings
from taskensemble.settings.pbs import QsubBatchSettings
from taskensemble.settings.run import RunSettings, SettingsBase
from taskensemble.settings.sge import SgeQsubBatchSettings
from taskensemble.settings.slurm import SbatchSettings, SrunSettings

__all__ = [
    "LAUNCHERS",
    "AprunSettings",
    "BatchSettings",
    "BsubBatchSettings",
    "Container",
    "JsrunSettings",
    "MpiSettings",
    "MpiexecSettings",
    "MpirunSettings",
    "OrterunSettings",
    "PalsMpiexecSettings",
    "QsubBatchSettings",
    "RunSettings",
    "SbatchSettings",
    "SettingsBase",
    "SgeQsubBatchSettings",
    "Singularity",
    "SrunSettings",
    "check_supported",
    "create_batch_settings",
    "create_run_settings",
    "detect_launcher",
]
