"""The settings that a launcher and a run command ask for."""

from taskensemble.settings import create_batch_settings, create_run_settings

__all__ = ["create_batch_settings", "create_run_settings"]
