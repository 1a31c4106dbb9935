"""Run settings of MPI launchers."""

from taskensemble.settings import MpiexecSettings, MpirunSettings, OrterunSettings
from taskensemble.settings import MpiSettings as _BaseMPISettings
from taskensemble.settings.mpi import logger

__all__ = ["MpiexecSettings", "MpirunSettings", "OrterunSettings", "_BaseMPISettings", "logger"]
