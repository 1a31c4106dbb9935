"""Steps of Grid Engine."""

from taskensemble.smartsim._core.launcher.step.step import BatchStep


class SgeQsubBatchStep(BatchStep):
    """A job of Grid Engine's."""


__all__ = ["SgeQsubBatchStep"]
