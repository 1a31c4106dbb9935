"""HPE Cray's PALS: its own `mpiexec`."""

# ruff: noqa: ARG002 - what PALS cannot do takes its arguments all the same, and warns.

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from taskensemble.settings.arguments import OptionValue, first_integer, host_names, integer
from taskensemble.settings.mpi import MpiSettings
from taskensemble.settings.run import Launcher

logger = logging.getLogger(__name__)


class PalsMpiexecSettings(MpiSettings):
    """A program under the `mpiexec` of PALS; see `MpiSettings`."""

    launcher: ClassVar[Launcher] = "palsmpiexec"

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        fail_if_missing_exec: bool = True,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, "mpiexec", run_args, env_vars, fail_if_missing_exec, **further)
        self.flavour = "openmpi"

    def set_task_map(self, task_mapping: int | str) -> None:
        """Not possible here: a warning."""
        logger.warning("set_task_map not supported under PALS")

    def set_cpus_per_task(self, cpus_per_task: int) -> None:
        """Not possible here: a warning."""
        logger.warning("set_cpus_per_task not supported under PALS")

    def set_quiet_launch(self, quiet: bool) -> None:
        """Not possible here: a warning."""
        logger.warning("set_quiet_launch not supported under PALS")

    def set_walltime(self, walltime: str) -> None:
        """Not possible here: a warning."""
        logger.warning("set_walltime not supported under PALS")

    def set_cpu_binding_type(self, bind_type: str) -> None:
        """What ranks are bound to (`--cpu-bind`)."""
        self.run_args["cpu-bind"] = bind_type

    def set_tasks(self, tasks: int) -> None:
        """Ranks in all (`--np`)."""
        self.run_args["np"] = integer("tasks", tasks)

    def set_tasks_per_node(self, tasks_per_node: int) -> None:
        """Ranks a node (`--ppn`)."""
        self.run_args["ppn"] = integer("tasks_per_node", tasks_per_node)

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts to run on (`--hosts`)."""
        self.run_args["hosts"] = ",".join(host_names(host_list))

    def set_broadcast(self, dest_path: str | None = None) -> None:
        """Copy the program to the nodes first (`--transfer`); the folder cannot be chosen."""
        self._broadcast("transfer", dest_path)

    def set_gpu_affinity_script(self, affinity: str, *args: object) -> None:
        """A script that starts the program with its GPUs chosen, and the script's own arguments."""
        self.affinity_script += [str(affinity), *(str(arg) for arg in args)]

    def format_run_args(self) -> list[str]:
        """The options, then the affinity script."""
        return [*super().format_run_args(), *self.affinity_script]

    def format_env_vars(self) -> list[str]:
        """The variables as `--env name=value`, and one `--envlist` of those to export."""
        formatted: list[str] = []
        for name, value in self.env_vars.items():
            if value:
                formatted += ["--env", f"{name}={value}"]
        exported = [name for name, value in self.env_vars.items() if not value]
        return [*formatted, "--envlist", ",".join(exported)] if exported else formatted

    def _tasks(self) -> int | None:
        return first_integer(self.run_args, "np", "n")

    def _tasks_per_node(self) -> int | None:
        return first_integer(self.run_args, "ppn")
