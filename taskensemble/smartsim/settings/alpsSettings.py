"""Run settings of aprun."""

from taskensemble.settings import AprunSettings

__all__ = ["AprunSettings"]
