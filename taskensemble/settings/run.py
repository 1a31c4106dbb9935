"""Run settings: how a program is started. The base class runs it as it is, or under a run command that we do not know."""

# ruff: noqa: ARG002 - the setters of the base class name the arguments that subclasses take, and use none.

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from taskensemble.checked import checked
from taskensemble.engine.records import CommandRecord
from taskensemble.errors import InputTypeError, UnsupportedError
from taskensemble.settings.arguments import (
    OptionValue,
    argument_list,
    executable_or_same,
    find_executable,
    integer,
    table,
)
from taskensemble.settings.containers import Container

logger = logging.getLogger(__name__)

Launcher = Literal["", "srun", "mpirun", "mpiexec", "orterun", "palsmpiexec", "aprun", "jsrun"]


class SettingsBase:
    """Base of run settings and batch settings."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        checked(cls, leave=("set",))


class RunSettings(SettingsBase):
    """How a program is started: the program, its arguments, its environment and the run command before it.

    Parameters:
        exe: the program, looked up on PATH; inside a container it is taken as it is.
        exe_args: its arguments; a str is split by shell rules.
        run_command: what starts it (`mpirun`, `srun`, …); empty or None: nothing. One that is not found is kept as it is,
            since it may exist on the compute nodes only.
        run_args: options of the run command, written literally: `{"-np": 2}` becomes `-np 2`.
        env_vars: variables of the program; None: what the class's launcher does with a name alone (exports it).
        container: the container that the program runs in.

    Raises:
        FileNotFoundError: no such program.
        InputTypeError: the program is a file that is not executable, or an argument has another type.
    """

    reserved_run_args: ClassVar[set[str]] = set()
    """Options that taskensemble writes itself; `set` refuses them with a warning."""

    launcher: ClassVar[Launcher] = ""
    """What a worker inside an allocation must know to place the program."""

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_command: str | None = "",
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        container: Container | None = None,
        **_ignored: Any,
    ) -> None:
        if container is not None and not isinstance(container, Container):
            raise InputTypeError(f"container={container!r} must be a Container such as Singularity('image')")
        self.exe = [exe] if container else [find_executable(exe)]
        self._exe_args = argument_list("exe_args", exe_args)
        self.run_args = dict(run_args or {})
        self.env_vars = dict(env_vars or {})
        self.container = container
        self.in_batch = False
        self.colocated_db_settings: dict[str, Any] | None = None
        self.mpmd: list[RunSettings] = []
        self._run_command = run_command or ""

    @property
    def exe_args(self) -> list[str]:
        """The program's arguments."""
        return self._exe_args

    @exe_args.setter
    def exe_args(self, value: str | list[str] | None) -> None:
        self._exe_args = argument_list("exe_args", value)

    @property
    def run_args(self) -> dict[str, OptionValue]:
        """Options of the run command, by name without dashes (in the base class: literally)."""
        return self._run_args

    @run_args.setter
    def run_args(self, value: dict[str, OptionValue]) -> None:
        self._run_args = copy.deepcopy(value)

    @property
    def env_vars(self) -> dict[str, str | None]:
        """Variables of the program."""
        return self._env_vars

    @env_vars.setter
    def env_vars(self, value: dict[str, str | None]) -> None:
        self._env_vars = copy.deepcopy(value)

    @property
    def run_command(self) -> str | None:
        """The run command's full path where it is found here, else as it was given; None: there is none."""
        return executable_or_same(self._run_command) if self._run_command else None

    def add_exe_args(self, args: str | list[str]) -> None:
        """Append arguments of the program; a str is split by shell rules."""
        self._exe_args.extend(argument_list("args", args))

    def update_env(self, env_vars: Mapping[str, str | int | float | bool]) -> None:
        """Set variables of the program; numbers become text.

        Raises:
            InputTypeError: a value is None or a collection.
        """
        for name, value in env_vars.items():
            if not isinstance(value, (str, int, float, bool)):
                raise InputTypeError(f"env_vars[{name!r}]={value!r} must be a str, int, float or bool")
        self._env_vars.update({name: str(value) for name, value in env_vars.items()})

    def set(self, arg: str, value: str | None = None, condition: bool = True) -> None:
        """Set an option of the run command, with or without its dashes.

        Parameters:
            arg: the option's name; one that taskensemble writes itself is refused with a warning.
            value: None: an option without a value.
            condition: False: nothing is set.

        Raises:
            InputTypeError: `arg` is not a str, or `value` neither a str nor None.
        """
        if not isinstance(arg, str):
            raise InputTypeError(f"arg={arg!r} must be a str: the option's name")
        if value is not None and not isinstance(value, str):
            raise InputTypeError(f"value={value!r} of option {arg!r} must be a str or None; write numbers as text")
        option = arg.strip().lstrip("-")
        if not condition:
            logger.info(f"Could not set argument '{option}': condition not met")
            return
        if option in self.reserved_run_args:
            logger.warning(
                f"Could not set argument '{option}': it is a reserved argument of '{type(self).__name__}', "
                "which taskensemble writes itself"
            )
            return
        if option in self.run_args and self.run_args[option] != value:
            logger.warning(f"Overwriting argument '{option}' with value '{value}'")
        self.run_args[option] = value

    def set_nodes(self, nodes: int) -> None:
        """Nodes to run on."""
        self._cannot("Node")

    def set_tasks(self, tasks: int) -> None:
        """Ranks in all."""
        self._cannot("Task")

    def set_tasks_per_node(self, tasks_per_node: int) -> None:
        """Ranks a node."""
        self._cannot("Task per node")

    def set_task_map(self, task_mapping: int | str) -> None:
        """How ranks are laid over nodes and cores."""
        self._cannot("Task mapping")

    def set_cpus_per_task(self, cpus_per_task: int) -> None:
        """CPUs a rank."""
        self._cannot("CPU per node")

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts to run on."""
        self._cannot("Hostlist")

    def set_hostlist_from_file(self, file_path: str) -> None:
        """A file that lists the hosts to run on."""
        self._cannot("Hostlist from file")

    def set_excluded_hosts(self, host_list: str | list[str]) -> None:
        """Hosts not to run on."""
        self._cannot("Excluded host list")

    def set_cpu_bindings(self, bindings: int | list[int]) -> None:
        """Cores that the ranks of a node are bound to."""
        self._cannot("CPU binding")

    def set_memory_per_node(self, memory_per_node: int) -> None:
        """Memory a node, in megabytes."""
        self._cannot("Memory per node")

    def set_verbose_launch(self, verbose: bool) -> None:
        """Whether the run command tells much."""
        self._cannot("Verbose")

    def set_quiet_launch(self, quiet: bool) -> None:
        """Whether the run command tells little."""
        self._cannot("Quiet")

    def set_broadcast(self, dest_path: str | None = None) -> None:
        """Copy the program to the nodes before it starts."""
        self._cannot("Broadcast")

    def set_node_feature(self, feature_list: str | list[str]) -> None:
        """Features that the nodes must have."""
        self._cannot("Feature")

    def set_walltime(self, walltime: str) -> None:
        """Longest time to run, in the run command's own format."""
        self._cannot("Walltime")

    def set_binding(self, binding: str) -> None:
        """How ranks are bound."""
        self._cannot("Binding")

    def set_mpmd_preamble(self, preamble_lines: list[str]) -> None:
        """Lines at the head of a file that describes several programs of one job."""
        self._cannot("MPMD preamble")

    def make_mpmd(self, settings: RunSettings) -> None:
        """Start the program of `settings` in the same job (multiple programs, multiple data)."""
        self._cannot("Make MPMD")

    def set_time(self, hours: int = 0, minutes: int = 0, seconds: int = 0) -> None:
        """Longest time to run, in the run command's own format."""
        total = integer("hours", hours) * 3600 + integer("minutes", minutes) * 60 + integer("seconds", seconds)
        self.set_walltime(self._walltime_text(total))

    def prepare_colocated(self, db_cpus: int) -> None:
        """Make room for a database of so many CPUs on the program's node. Nothing to do for most run commands."""

    def format_run_args(self) -> list[str]:
        """The options of the run command as a list of arguments."""
        formatted: list[str] = []
        for option, value in self.run_args.items():
            formatted += [option, str(value)]
        return formatted

    def format_env_vars(self) -> list[str]:
        """The variables in the run command's form."""
        return [f"{name}={'' if value is None else value}" for name, value in self.env_vars.items()]

    def command(self) -> CommandRecord:
        """The command line that a worker starts. The variables travel in the member's environment as well."""
        head = [*self._launch_line(), *self._program()]
        tail: list[str] = []
        for further in self.mpmd:
            tail += [":", *further._further_line(), *further._program()]
        together = [self, *self.mpmd]
        return CommandRecord(
            head=tuple(head),
            tail=tuple(tail),
            launcher=self.launcher,
            nodes=self._nodes(),
            tasks=_sum(settings._tasks() for settings in together),
            tasks_per_node=self._tasks_per_node(),
            cpus_per_task=_most(settings._cpus_per_task() for settings in together),
        )

    def _launch_line(self) -> list[str]:
        """The run command with everything before the program."""
        return [self.run_command, *self.format_run_args()] if self.run_command else []

    def _further_line(self) -> list[str]:
        """What stands before the program when it is a further one of an MPMD job."""
        return self.format_run_args()

    def _program(self) -> list[str]:
        program = [*self.exe, *self.exe_args]
        return self.container.wrap(program) if self.container else program

    def _nodes(self) -> int | None:
        return None

    def _tasks(self) -> int | None:
        return None

    def _tasks_per_node(self) -> int | None:
        return None

    def _cpus_per_task(self) -> int | None:
        return None

    def _walltime_text(self, seconds: int) -> str:
        return str(seconds)

    def _set_flag(self, option: str, wanted: bool) -> None:
        if wanted:
            self.run_args[option] = None
        else:
            self.run_args.pop(option, None)

    def _join(self, settings: RunSettings) -> None:
        """Take `settings` as a further program of this job.

        Raises:
            UnsupportedError: this one has a colocated database or a container.
        """
        if self.colocated_db_settings:
            raise UnsupportedError(
                "Colocated models cannot be run as an MPMD workload; use a standard database instead"
            )
        if self.container or (isinstance(settings, RunSettings) and settings.container):
            raise UnsupportedError(
                "Containerized MPMD workloads are not supported; start the programs without container="
            )
        if not isinstance(settings, type(self)):
            raise InputTypeError(
                f"settings={settings!r} must be {type(self).__name__}, as all programs of one MPMD job"
            )
        self.mpmd.append(settings)

    def _cannot(self, what: str) -> None:
        logger.warning(f"{what} specification not implemented for this RunSettings type: {type(self)}")

    def __str__(self) -> str:
        lines = [f"Executable: {self.exe[0]}", f"Executable Arguments: {' '.join(self.exe_args)}"]
        if self.run_command:
            lines.append(f"Run Command: {self.run_command}")
        if self.run_args:
            lines.append(f"Run Arguments:\n{table(self.run_args)}")
        if self.colocated_db_settings:
            lines.append("Co-located Database: True")
        return "\n".join(lines)


def _sum(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _most(values: Any) -> int | None:
    return max((value for value in values if value is not None), default=None)
