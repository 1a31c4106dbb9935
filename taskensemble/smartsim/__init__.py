"""SmartSim's names for the drivers that use them.

    import taskensemble.smartsim as smartsim      # or
    import taskensemble.smartsim
    taskensemble.smartsim.install()               # from here on, `import smartsim` is this package

The modules have SmartSim's places and names; what is behind them is taskensemble. Where the two differ in what exists,
SmartSim's rule holds here (replicas are ignored beside parameters); what SmartSim lets pass in silence is an error here too.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from taskensemble.errors import TaskensembleError
from taskensemble.smartsim.experiment import Experiment
from taskensemble.smartsim.version import __version__ as __version__

__all__ = ["Experiment", "install"]

MODULES = (
    "_core",
    "_core._cli",
    "_core._cli.utils",
    "_core.config",
    "_core.config.config",
    "_core.control",
    "_core.control.controller",
    "_core.control.job",
    "_core.control.manifest",
    "_core.control.previewrenderer",
    "_core.generation",
    "_core.generation.modelwriter",
    "_core.launcher",
    "_core.launcher.dragon",
    "_core.launcher.dragon.dragonConnector",
    "_core.launcher.dragon.dragonLauncher",
    "_core.launcher.launcher",
    "_core.launcher.sge",
    "_core.launcher.sge.sgeParser",
    "_core.launcher.slurm",
    "_core.launcher.slurm.slurmParser",
    "_core.launcher.step",
    "_core.launcher.step.alpsStep",
    "_core.launcher.step.dragonStep",
    "_core.launcher.step.localStep",
    "_core.launcher.step.lsfStep",
    "_core.launcher.step.mpiStep",
    "_core.launcher.step.pbsStep",
    "_core.launcher.step.sgeStep",
    "_core.launcher.step.slurmStep",
    "_core.launcher.step.step",
    "_core.utils",
    "_core.utils.helpers",
    "_core.utils.network",
    "_core.utils.serialize",
    "_core.utils.shell",
    "_core.utils.telemetry",
    "_core.utils.telemetry.telemetry",
    "database",
    "database.orchestrator",
    "entity",
    "entity.dbnode",
    "entity.dbobject",
    "entity.ensemble",
    "entity.entity",
    "entity.entityList",
    "entity.files",
    "entity.model",
    "entity.strategies",
    "error",
    "error.errors",
    "experiment",
    "log",
    "ml",
    "ml.data",
    "servertype",
    "settings",
    "settings.alpsSettings",
    "settings.base",
    "settings.containers",
    "settings.dragonRunSettings",
    "settings.lsfSettings",
    "settings.mpiSettings",
    "settings.palsSettings",
    "settings.pbsSettings",
    "settings.settings",
    "settings.sgeSettings",
    "settings.slurmSettings",
    "status",
    "version",
    "wlm",
    "wlm.pbs",
    "wlm.slurm",
)
FRAMEWORKS = ("ml.tf", "ml.torch")
"""Modules that need a framework: they are imported when a driver imports them."""


def install() -> ModuleType:
    """Give this package the name `smartsim`, for every import that follows in this process. A second time is fine.

    Returns:
        ModuleType: this package.

    Raises:
        TaskensembleError: another `smartsim` was imported already.
    """
    package = sys.modules[__name__]
    present = sys.modules.get("smartsim")
    if present is not None and present is not package:
        raise TaskensembleError(
            f"another smartsim was imported already, from {getattr(present, '__file__', None)}; call install() before it"
        )
    for name in MODULES:
        sys.modules[f"smartsim.{name}"] = import_module(f"{__name__}.{name}")
    sys.modules["smartsim"] = package
    from taskensemble.smartsim.frameworks import install_finder

    install_finder()
    return package
