"""Which step settings make, by launcher. Nothing is started here: `Experiment.start` does that."""

from taskensemble.smartsim._core.launcher.launcher import (
    LocalLauncher,
    LSFLauncher,
    PBSLauncher,
    SGELauncher,
    SlurmLauncher,
)

__all__ = ["LSFLauncher", "LocalLauncher", "PBSLauncher", "SGELauncher", "SlurmLauncher"]
