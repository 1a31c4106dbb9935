"""Steps of MPI's launchers."""

from taskensemble.smartsim._core.launcher.step.step import RunStep


class _MpiStep(RunStep):
    variables = ("PBS_JOBID", "SLURM_JOBID", "LSB_JOBID", "JOB_ID")

    def _placed(self, head: tuple[str, ...]) -> list[str]:
        return [head[0], "--wdir", self.cwd, *head[1:]]


class MpiexecStep(_MpiStep):
    """A program under `mpiexec`."""


class MpirunStep(_MpiStep):
    """A program under `mpirun`."""


class OrterunStep(_MpiStep):
    """A program under `orterun`."""


__all__ = ["MpiexecStep", "MpirunStep", "OrterunStep"]
