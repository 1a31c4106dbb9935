"""The client of the AI database: tensors, datasets, models and scripts from a simulation, with SmartRedis' names."""

from __future__ import annotations

from .client import Client
from .dataset import Dataset
from .logger import (
    LLDebug,
    LLDeveloper,
    LLInfo,
    LLQuiet,
    LogContext,
    SRObject,
    log_data,
    log_error,
    log_warning,
)
from .options import ConfigOptions
from .xarray import DatasetConverter

__all__ = [
    "Client",
    "ConfigOptions",
    "Dataset",
    "DatasetConverter",
    "LLDebug",
    "LLDeveloper",
    "LLInfo",
    "LLQuiet",
    "LogContext",
    "SRObject",
    "log_data",
    "log_error",
    "log_warning",
]
