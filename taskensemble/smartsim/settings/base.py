"""The bases of run and batch settings."""

from taskensemble.settings import BatchSettings, RunSettings, SettingsBase
from taskensemble.settings.run import logger

__all__ = ["BatchSettings", "RunSettings", "SettingsBase", "logger"]
