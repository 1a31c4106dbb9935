"""Steps of PBS."""

from taskensemble.smartsim._core.launcher.step.step import BatchStep


class QsubBatchStep(BatchStep):
    """A job of PBS's."""


__all__ = ["QsubBatchStep"]
