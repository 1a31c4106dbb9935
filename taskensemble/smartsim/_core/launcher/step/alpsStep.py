"""Steps of Cray's ALPS."""

from taskensemble.smartsim._core.launcher.step.step import RunStep


class AprunStep(RunStep):
    """A program under `aprun`."""


__all__ = ["AprunStep"]
