"""The client of the AI database: tensors, datasets, models and scripts from a simulation, with SmartRedis' names."""

from __future__ import annotations

from .client import Client
from .dataset import Dataset
from .options import ConfigOptions

__all__ = ["Client", "ConfigOptions", "Dataset"]
