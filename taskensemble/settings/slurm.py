"""Slurm: `srun` and `sbatch`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from taskensemble.engine.allocation import Scheduler, slurm_seconds
from taskensemble.errors import InputError, InputTypeError
from taskensemble.settings.arguments import (
    OptionValue,
    clock,
    first_integer,
    gnu_options,
    host_names,
    integer,
    integers,
)
from taskensemble.settings.batch import BatchSettings
from taskensemble.settings.run import Launcher, RunSettings

logger = logging.getLogger(__name__)


class SrunSettings(RunSettings):
    """A job step of Slurm.

    Parameters:
        exe, exe_args, env_vars, container: see `RunSettings`.
        run_args: options of `srun`, without dashes.
        alloc: id of an allocation to run in, when it is not the one that the worker is in.
    """

    reserved_run_args: ClassVar[set[str]] = {"chdir", "D"}
    launcher: ClassVar[Launcher] = "srun"

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        alloc: str | None = None,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, run_command="srun", run_args=run_args, env_vars=env_vars, **further)
        self.alloc = alloc

    def set_nodes(self, nodes: int) -> None:
        """Nodes of the step (`--nodes`)."""
        self.run_args["nodes"] = integer("nodes", nodes)

    def set_tasks(self, tasks: int) -> None:
        """Ranks in all (`--ntasks`)."""
        self.run_args["ntasks"] = integer("tasks", tasks)

    def set_tasks_per_node(self, tasks_per_node: int) -> None:
        """Ranks a node (`--ntasks-per-node`)."""
        self.run_args["ntasks-per-node"] = integer("tasks_per_node", tasks_per_node)

    def set_cpus_per_task(self, cpus_per_task: int) -> None:
        """CPUs a rank (`--cpus-per-task`)."""
        self.run_args["cpus-per-task"] = integer("cpus_per_task", cpus_per_task)

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts of the step (`--nodelist`)."""
        self.run_args["nodelist"] = ",".join(host_names(host_list))

    def set_hostlist_from_file(self, file_path: str) -> None:
        """A file with the hosts of the step (`--nodefile`)."""
        self.run_args["nodefile"] = file_path

    def set_excluded_hosts(self, host_list: str | list[str]) -> None:
        """Hosts to leave out (`--exclude`)."""
        self.run_args["exclude"] = ",".join(host_names(host_list))

    def set_cpu_bindings(self, bindings: int | list[int]) -> None:
        """Cores of a node's ranks (`--cpu_bind=map_cpu:…`)."""
        self.run_args["cpu_bind"] = "map_cpu:" + ",".join(str(core) for core in integers("bindings", bindings))

    def set_memory_per_node(self, memory_per_node: int) -> None:
        """Memory a node, in megabytes (`--mem`)."""
        self.run_args["mem"] = f"{integer('memory_per_node', memory_per_node)}M"

    def set_verbose_launch(self, verbose: bool) -> None:
        """Whether `srun` tells much (`--verbose`)."""
        self._set_flag("verbose", verbose)

    def set_quiet_launch(self, quiet: bool) -> None:
        """Whether `srun` tells little (`--quiet`)."""
        self._set_flag("quiet", quiet)

    def set_broadcast(self, dest_path: str | None = None) -> None:
        """Copy the program to the nodes first (`--bcast`), to `dest_path` where given."""
        self.run_args["bcast"] = dest_path

    def set_node_feature(self, feature_list: str | list[str]) -> None:
        """Features that the nodes must have (`-C`)."""
        features = [feature_list.strip()] if isinstance(feature_list, str) else feature_list
        if not isinstance(features, list) or not all(isinstance(feature, str) for feature in features):
            raise InputTypeError(f"feature_list={feature_list!r} must be a str or a list of str")
        self.run_args["C"] = ",".join(features)

    def set_walltime(self, walltime: str) -> None:
        """Longest time of the step, as HH:MM:SS (`--time`)."""
        self.run_args["time"] = str(walltime)

    def set_het_group(self, het_group: Iterable[int]) -> None:
        """Components of the heterogeneous job to run on (`--het-group`).

        Raises:
            InputError: the driver is in no heterogeneous job, the job has fewer components, or the step has several programs.
        """
        groups = list(het_group)
        size_text = os.getenv("SLURM_HET_SIZE")
        if size_text is None:
            raise InputError(
                f"het_group={groups!r} was given, but the allocation is not a het job (SLURM_HET_SIZE is not set)"
            )
        if self.mpmd:
            raise InputError(f"het_group={groups!r}: Slurm does not support MPMD workloads in heterogeneous jobs")
        if any(group >= int(size_text) for group in groups):
            raise InputError(
                f"Het group {max(groups)} requested, but max het group in allocation is {int(size_text) - 1}"
            )
        self.run_args["het-group"] = ",".join(str(group) for group in groups)

    def make_mpmd(self, settings: RunSettings) -> None:
        """Start the program of `settings` in the same step.

        Raises:
            UnsupportedError: with a colocated database or a container.
            InputError: inside a heterogeneous job.
        """
        if os.getenv("SLURM_HET_SIZE") is not None:
            raise InputError("settings=…: Slurm does not support MPMD workloads in heterogeneous jobs")
        self._join(settings)

    def format_run_args(self) -> list[str]:
        """The options as `srun` reads them."""
        return gnu_options(self.run_args)

    def check_env_vars(self) -> None:
        """Warn of variables that the driver's environment has with another value.

        It matters to who calls `srun` themselves: our workers put the variables into the step's environment.
        """
        for name, value in self.env_vars.items():
            present = os.environ.get(name)
            if "," not in str(value) and present is not None and present != value:
                logger.warning(
                    f"Variable {name} is set to {present} in current environment. If the job is running in an interactive "
                    f"allocation, the value {value} will not be set. Please consider removing the variable from the "
                    "environment and re-running the experiment."
                )

    def format_env_vars(self) -> list[str]:
        """The variables as `name=value`, without those that hold a comma: `--export` cannot carry them.

        One without a value is a name alone, which exports the one of the worker's environment.
        """
        self.check_env_vars()
        return self._plain()

    def format_comma_sep_env_vars(self) -> tuple[str, list[str]]:
        """The variables for `--export`, and those that must be in the environment of `srun` itself.

        Returns:
            The list for `--export` (a variable with a comma by its name alone), and `name=value` of those with a comma, of
            this program and of all further programs of the step.
        """
        self.check_env_vars()
        compound = [f"{name}={value}" for name, value in self.env_vars.items() if "," in str(value)]
        for further in self.mpmd:
            compound += [f"{name}={value}" for name, value in further.env_vars.items() if "," in str(value)]
        return self._export(), compound

    def _export(self) -> str:
        return ",".join(
            [*self.format_env_vars(), *(name for name, value in self.env_vars.items() if "," in str(value))]
        )

    def _plain(self) -> list[str]:
        return [
            name if value is None else f"{name}={value}"
            for name, value in self.env_vars.items()
            if "," not in str(value)
        ]

    def _launch_line(self) -> list[str]:
        allocation = [] if self.alloc is None else ["--jobid", str(self.alloc)]
        return [str(self.run_command), *allocation, *self._further_line()]

    def _further_line(self) -> list[str]:
        export = [] if not self.env_vars or "export" in self.run_args else ["--export", f"ALL,{self._export()}"]
        return [*export, *self.format_run_args()]

    def _nodes(self) -> int | None:
        return first_integer(self.run_args, "nodes", "N")

    def _tasks(self) -> int | None:
        return first_integer(self.run_args, "ntasks", "n")

    def _tasks_per_node(self) -> int | None:
        return first_integer(self.run_args, "ntasks-per-node")

    def _cpus_per_task(self) -> int | None:
        return first_integer(self.run_args, "cpus-per-task", "c")

    def _walltime_text(self, seconds: int) -> str:
        return clock(seconds)


class SbatchSettings(BatchSettings):
    """A batch job of Slurm.

    Parameters:
        nodes: nodes of the allocation.
        time: longest time, as HH:MM:SS.
        account: the account that pays.
        batch_args: further options of `sbatch`, without dashes; None: an option without a value.
    """

    scheduler: ClassVar[Scheduler] = "slurm"

    def __init__(
        self,
        nodes: int | None = None,
        time: str | None = "",
        account: str | None = None,
        batch_args: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        super().__init__("sbatch", batch_args=batch_args, nodes=nodes, account=account, time=time, **further)

    def set_walltime(self, walltime: str) -> None:
        """Longest time, as HH:MM:SS (`--time`)."""
        if walltime:
            self.batch_args["time"] = str(walltime)

    @property
    def walltime_seconds(self) -> float | None:
        """Of `--time`, as Slurm reads it."""
        return slurm_seconds(self.batch_args.get("time") or self.batch_args.get("t") or "")

    def set_nodes(self, num_nodes: int) -> None:
        """Nodes of the allocation (`--nodes`)."""
        if num_nodes:
            self.batch_args["nodes"] = str(integer("num_nodes", num_nodes))

    def set_account(self, account: str) -> None:
        """The account that pays (`--account`)."""
        if account:
            self.batch_args["account"] = account

    def set_partition(self, partition: str) -> None:
        """The partition to submit to (`--partition`)."""
        self.batch_args["partition"] = str(partition)

    def set_queue(self, queue: str) -> None:
        """The partition to submit to (`--partition`)."""
        if queue:
            self.set_partition(queue)

    def set_cpus_per_task(self, cpus_per_task: int) -> None:
        """CPUs a task (`--cpus-per-task`)."""
        self.batch_args["cpus-per-task"] = str(integer("cpus_per_task", cpus_per_task))

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts of the allocation (`--nodelist`)."""
        self.batch_args["nodelist"] = ",".join(host_names(host_list))

    def format_batch_args(self) -> list[str]:
        """The options as `#SBATCH` lines have them."""
        return gnu_options(self.batch_args)

    def headers(self, name: str, output: str, error: str) -> list[str]:
        """Shebang and `#SBATCH` lines."""
        options = [f"--job-name={name}", f"--output={output}", f"--error={error}"]
        for option, value in self.batch_args.items():
            options.append(" ".join(gnu_options({option: value})))
        return ["#!/bin/bash", *(f"#SBATCH {option}" for option in options)]
