"""Ensembles of simulations on a task queue, with AI models inside the database beside them.

A driver needs one name of this package:

    from taskensemble import Experiment

Names are imported when they are used, so that `import taskensemble` costs next to nothing in a member's program.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskensemble.ai import Client
    from taskensemble.engine.records import RunStatus
    from taskensemble.engine.records import State as Status
    from taskensemble.entity import Database, Ensemble, Model
    from taskensemble.errors import TaskensembleError
    from taskensemble.experiment import Experiment
    from taskensemble.handle import RunHandle
    from taskensemble.settings import BatchSettings, Container, RunSettings, Singularity

__all__ = [
    "BatchSettings",
    "Client",
    "Container",
    "Database",
    "Ensemble",
    "Experiment",
    "Model",
    "RunHandle",
    "RunSettings",
    "RunStatus",
    "Singularity",
    "Status",
    "TaskensembleError",
    "__version__",
]

_HOMES = {
    "BatchSettings": ("taskensemble.settings", "BatchSettings"),
    "Client": ("taskensemble.ai", "Client"),
    "Container": ("taskensemble.settings", "Container"),
    "Database": ("taskensemble.entity", "Database"),
    "Ensemble": ("taskensemble.entity", "Ensemble"),
    "Experiment": ("taskensemble.experiment", "Experiment"),
    "Model": ("taskensemble.entity", "Model"),
    "RunHandle": ("taskensemble.handle", "RunHandle"),
    "RunSettings": ("taskensemble.settings", "RunSettings"),
    "RunStatus": ("taskensemble.engine.records", "RunStatus"),
    "Singularity": ("taskensemble.settings", "Singularity"),
    "Status": ("taskensemble.engine.records", "State"),
    "TaskensembleError": ("taskensemble.errors", "TaskensembleError"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("taskensemble")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
