"""The bases of run and batch settings."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import taskensemble.settings.run
from taskensemble.settings import BatchSettings, RunSettings, SettingsBase
from taskensemble.settings.arguments import find_executable as expand_exe_path
from taskensemble.settings.run import logger

__all__ = ["BatchSettings", "RunSettings", "SettingsBase", "expand_exe_path", "logger"]


class _Module(ModuleType):
    """Scripts that make settings where the programs are not replace `expand_exe_path` here; run settings then use theirs."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "expand_exe_path":
            setattr(taskensemble.settings.run, "find_executable", value)  # noqa: B010  mypy knows no such export


sys.modules[__name__].__class__ = _Module
