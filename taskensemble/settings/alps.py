"""Cray's ALPS: `aprun`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from taskensemble.settings.arguments import OptionValue, first_integer, gnu_options, host_names, integer, integers
from taskensemble.settings.run import Launcher, RunSettings


class AprunSettings(RunSettings):
    """A program under `aprun`; `run_args` are its options without dashes. See `RunSettings` for the rest."""

    launcher: ClassVar[Launcher] = "aprun"

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, run_command="aprun", run_args=run_args, env_vars=env_vars, **further)

    def make_mpmd(self, settings: RunSettings) -> None:
        """Start the program of `settings` in the same job."""
        self._join(settings)

    def set_cpus_per_task(self, cpus_per_task: int) -> None:
        """CPUs a rank (`--cpus-per-pe`)."""
        self.run_args["cpus-per-pe"] = integer("cpus_per_task", cpus_per_task)

    def set_tasks(self, tasks: int) -> None:
        """Ranks in all (`--pes`)."""
        self.run_args["pes"] = integer("tasks", tasks)

    def set_tasks_per_node(self, tasks_per_node: int) -> None:
        """Ranks a node (`--pes-per-node`)."""
        self.run_args["pes-per-node"] = integer("tasks_per_node", tasks_per_node)

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts to run on (`--node-list`)."""
        self.run_args["node-list"] = ",".join(host_names(host_list))

    def set_hostlist_from_file(self, file_path: str) -> None:
        """A file with the hosts to run on (`--node-list-file`)."""
        self.run_args["node-list-file"] = file_path

    def set_excluded_hosts(self, host_list: str | list[str]) -> None:
        """Hosts to leave out (`--exclude-node-list`)."""
        self.run_args["exclude-node-list"] = ",".join(host_names(host_list))

    def set_cpu_bindings(self, bindings: int | list[int]) -> None:
        """Cores that the ranks of a node are bound to (`--cpu-binding`)."""
        self.run_args["cpu-binding"] = ",".join(str(core) for core in integers("bindings", bindings))

    def set_memory_per_node(self, memory_per_node: int) -> None:
        """Memory a rank, in megabytes (`--memory-per-pe`)."""
        self.run_args["memory-per-pe"] = integer("memory_per_node", memory_per_node)

    def set_verbose_launch(self, verbose: bool) -> None:
        """Whether `aprun` tells all it can (`--debug=7`)."""
        if verbose:
            self.run_args["debug"] = 7
        else:
            self.run_args.pop("debug", None)

    def set_quiet_launch(self, quiet: bool) -> None:
        """Whether `aprun` tells little (`--quiet`)."""
        self._set_flag("quiet", quiet)

    def set_walltime(self, walltime: str) -> None:
        """Longest CPU time of a rank, in seconds (`--cpu-time-limit`)."""
        self.run_args["cpu-time-limit"] = str(walltime)

    def format_run_args(self) -> list[str]:
        """The options as `aprun` reads them; the folder is the member's own, so `wdir` is left out."""
        return gnu_options({name: value for name, value in self.run_args.items() if name != "wdir"})

    def format_env_vars(self) -> list[str]:
        """The variables as `-e name=value`; `aprun` exports its whole environment, so one without a value needs nothing."""
        formatted: list[str] = []
        for name, value in self.env_vars.items():
            if value is not None:
                formatted += ["-e", f"{name}={value}"]
        return formatted

    def _launch_line(self) -> list[str]:
        return [str(self.run_command), *self.format_env_vars(), *self.format_run_args()]

    def _tasks(self) -> int | None:
        return first_integer(self.run_args, "pes", "n")

    def _tasks_per_node(self) -> int | None:
        return first_integer(self.run_args, "pes-per-node", "N")

    def _cpus_per_task(self) -> int | None:
        return first_integer(self.run_args, "cpus-per-pe", "d")
