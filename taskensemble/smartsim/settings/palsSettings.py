"""Run settings of PALS."""

from taskensemble.settings import PalsMpiexecSettings

__all__ = ["PalsMpiexecSettings"]
