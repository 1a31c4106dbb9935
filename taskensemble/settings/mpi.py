"""MPI's own launchers: `mpirun`, `mpiexec`, `orterun`. One set of option names, written as Open MPI or as MPICH reads it."""

from __future__ import annotations

import functools
import logging
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from taskensemble.errors import InputError, LauncherError, UnsupportedError
from taskensemble.settings.arguments import OptionValue, first_integer, host_names, integer, is_flag, spaced_options
from taskensemble.settings.run import Launcher, RunSettings

logger = logging.getLogger(__name__)

Flavour = Literal["openmpi", "mpich"]

_MPICH_NAMES = {"npernode": "ppn", "host": "hosts", "hostfile": "f", "np": "n"}
"""What MPICH's mpiexec calls the options that our methods write in Open MPI's words."""

_OPENMPI_ONLY = {
    "cpus-per-proc": "ask for CPUs with create_model(resources=…) and bind with set_cpu_binding_type('core:<n>')",
    "timeout": "give create_model or create_ensemble a walltime=",
    "preload-binary": "put the program on a shared file system",
    "quiet": "leave it out",
}


class MpiSettings(RunSettings):
    """A program under an MPI launcher.

    Parameters:
        exe, exe_args, container: see `RunSettings`.
        run_command: the launcher.
        run_args: its options without dashes, in Open MPI's words; with MPICH installed they are written in MPICH's.
        env_vars: variables of the program; None: export the one of the worker's environment.
        fail_if_missing_exec: False: a launcher that is not found is a warning.

    Raises:
        LauncherError: the launcher is not on PATH.
    """

    reserved_run_args: ClassVar[set[str]] = {"wd", "wdir"}

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_command: str = "mpiexec",
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        fail_if_missing_exec: bool = True,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, run_command=run_command, run_args=run_args, env_vars=env_vars, **further)
        self.affinity_script: list[str] = []
        found = shutil.which(self._run_command)
        if not found:
            message = f"Cannot find {self._run_command}. Try passing the full path via run_command, or load its module."
            if fail_if_missing_exec:
                raise LauncherError(message)
            logger.warning(message)
        self.flavour: Flavour = launcher_flavour(found) if found else "openmpi"

    def make_mpmd(self, settings: RunSettings) -> None:
        """Start the program of `settings` in the same job."""
        self._join(settings)

    def set_task_map(self, task_mapping: int | str) -> None:
        """How ranks are laid over nodes and cores (`--map-by`)."""
        self.run_args["map-by"] = str(task_mapping)

    def set_cpus_per_task(self, cpus_per_task: int) -> None:
        """CPUs a rank (`--cpus-per-proc`)."""
        self.run_args["cpus-per-proc"] = integer("cpus_per_task", cpus_per_task)

    def set_cpu_binding_type(self, bind_type: str) -> None:
        """What ranks are bound to (`--bind-to`)."""
        self.run_args["bind-to"] = bind_type

    def set_tasks_per_node(self, tasks_per_node: int) -> None:
        """Ranks a node (`--npernode`)."""
        self.run_args["npernode"] = integer("tasks_per_node", tasks_per_node)

    def set_tasks(self, tasks: int) -> None:
        """Ranks in all (`--n`)."""
        self.run_args["n"] = integer("tasks", tasks)

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts to run on (`--host`)."""
        self.run_args["host"] = ",".join(host_names(host_list))

    def set_hostlist_from_file(self, file_path: str) -> None:
        """A file with the hosts to run on (`--hostfile`)."""
        self.run_args["hostfile"] = file_path

    def set_verbose_launch(self, verbose: bool) -> None:
        """Whether the launcher tells much (`--verbose`)."""
        self._set_flag("verbose", verbose)

    def set_quiet_launch(self, quiet: bool) -> None:
        """Whether the launcher tells little (`--quiet`)."""
        self._set_flag("quiet", quiet)

    def set_broadcast(self, dest_path: str | None = None) -> None:
        """Copy the program to the nodes first (`--preload-binary`); the folder cannot be chosen."""
        self._broadcast("preload-binary", dest_path)

    def set_walltime(self, walltime: str) -> None:
        """Longest time, in seconds (`--timeout`)."""
        self.run_args["timeout"] = walltime

    def format_run_args(self) -> list[str]:
        """The options in Open MPI's words, always name and value apart."""
        return spaced_options({name: value for name, value in self.run_args.items() if name not in {"wd", "wdir"}})

    def format_env_vars(self) -> list[str]:
        """The variables as `-x name=value`; `-x name` exports the worker's."""
        formatted: list[str] = []
        for name, value in self.env_vars.items():
            formatted += ["-x", f"{name}={value}" if value else name]
        return formatted

    def _broadcast(self, option: str, dest_path: str | None) -> None:
        if dest_path is not None:
            logger.warning(
                f"{type(self)} cannot set a destination path during broadcast. Using session directory instead"
            )
        self.run_args[option] = None

    def _launch_line(self) -> list[str]:
        return [str(self.run_command), *self._further_line()]

    def _further_line(self) -> list[str]:
        if self.flavour == "mpich":
            return [*self._mpich_variables(), *self._mpich_options()]
        return [*self.format_env_vars(), *self.format_run_args()]

    def _mpich_variables(self) -> list[str]:
        # MPICH exports its own whole environment by default, so a name without a value needs nothing.
        formatted: list[str] = []
        for name, value in self.env_vars.items():
            if value:
                formatted += ["-env", name, str(value)]
        return formatted

    def _mpich_options(self) -> list[str]:
        formatted: list[str] = []
        for name, value in self.run_args.items():
            if name in self.reserved_run_args:
                continue
            if name in _OPENMPI_ONLY:
                raise InputError(
                    f"run_args[{name!r}]={value!r}: MPICH's {self._run_command} has no such option; {_OPENMPI_ONLY[name]}"
                )
            formatted.append(f"-{_MPICH_NAMES.get(name, name)}")
            if not is_flag(value):
                formatted.append(str(value))
        return formatted

    def _tasks(self) -> int | None:
        return first_integer(self.run_args, "n", "np", "c")

    def _tasks_per_node(self) -> int | None:
        return first_integer(self.run_args, "npernode", "ppn", "N")

    def _cpus_per_task(self) -> int | None:
        return first_integer(self.run_args, "cpus-per-proc", "cpus-per-rank")


class MpirunSettings(MpiSettings):
    """A program under `mpirun`; see `MpiSettings`."""

    launcher: ClassVar[Launcher] = "mpirun"

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, "mpirun", run_args, env_vars, **further)


class MpiexecSettings(MpiSettings):
    """A program under `mpiexec`; see `MpiSettings`.

    Raises:
        UnsupportedError: the `mpiexec` on PATH is Slurm's wrapper.
    """

    launcher: ClassVar[Launcher] = "mpiexec"

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, "mpiexec", run_args, env_vars, **further)
        found = shutil.which(self._run_command)
        if found and "mpiexec.slurm" in _answer(found, "--help"):
            raise UnsupportedError(
                f"{found} is Slurm's wrapper for mpiexec, which is unsupported; use run_command='srun'"
            )


class OrterunSettings(MpiSettings):
    """A program under `orterun`; see `MpiSettings`."""

    launcher: ClassVar[Launcher] = "orterun"

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, "orterun", run_args, env_vars, **further)


def launcher_flavour(path: str) -> Flavour:
    """Whose options the MPI launcher at `path` reads; Open MPI's when it does not say."""
    return "mpich" if "hydra" in _answer(path, "--version").lower() else "openmpi"


@functools.lru_cache(maxsize=32)
def _answer(path: str, option: str) -> str:
    """What a launcher prints for `--help` or `--version`; empty when it does not run here."""
    try:
        return subprocess.run([path, option], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
