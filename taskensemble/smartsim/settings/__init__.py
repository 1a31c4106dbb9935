"""Run settings and batch settings, under SmartSim's names."""

from taskensemble.settings import (
    AprunSettings,
    BsubBatchSettings,
    Container,
    JsrunSettings,
    MpiexecSettings,
    MpirunSettings,
    OrterunSettings,
    PalsMpiexecSettings,
    QsubBatchSettings,
    RunSettings,
    SbatchSettings,
    SettingsBase,
    SgeQsubBatchSettings,
    Singularity,
    SrunSettings,
)
from taskensemble.smartsim.settings.dragonRunSettings import DragonRunSettings

__all__ = [
    "AprunSettings",
    "BsubBatchSettings",
    "Container",
    "DragonRunSettings",
    "JsrunSettings",
    "MpiexecSettings",
    "MpirunSettings",
    "OrterunSettings",
    "PalsMpiexecSettings",
    "QsubBatchSettings",
    "RunSettings",
    "SbatchSettings",
    "SettingsBase",
    "SgeQsubBatchSettings",
    "Singularity",
    "SrunSettings",
]
