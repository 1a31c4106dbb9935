"""Steps of LSF."""

from taskensemble.smartsim._core.launcher.step.step import BatchStep, RunStep


class JsrunStep(RunStep):
    """A program under `jsrun`."""

    managed = True


class BsubBatchStep(BatchStep):
    """A job of LSF's."""


__all__ = ["BsubBatchStep", "JsrunStep"]
