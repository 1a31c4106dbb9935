"""Steps on this machine."""

from taskensemble.smartsim._core.launcher.step.step import RunStep


class LocalStep(RunStep):
    """A program on this machine."""


__all__ = ["LocalStep"]
