"""Run and batch settings of Slurm."""

from taskensemble.settings import SbatchSettings, SrunSettings

__all__ = ["SbatchSettings", "SrunSettings"]
