"""IBM's LSF: `jsrun` and `bsub`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pprint import pformat
from typing import Any, ClassVar

from taskensemble.engine.allocation import Scheduler
from taskensemble.engine.records import CommandRecord
from taskensemble.errors import InputError
from taskensemble.settings.arguments import OptionValue, clock_seconds, first_integer, gnu_options, host_names, integer
from taskensemble.settings.batch import BatchSettings
from taskensemble.settings.run import Launcher, RunSettings

logger = logging.getLogger("taskensemble")

ERF_FILE = "taskensemble.erf"
"""The file in the member's folder that tells `jsrun` its resource sets."""

_OURS = {"chdir", "h", "stdio_stdout", "o", "stdio_stderr", "k"}
_SAID_BY_ERF = {
    *("tasks_per_rs", "a", "np", "p", "cpu_per_rs", "c", "gpu_per_rs", "g", "latency_priority", "l"),
    *("memory_per_rs", "m", "nrs", "n", "rs_per_host", "r", "rs_per_socket", "K", "appfile", "f", "allocate_only", "A"),
    *("launch_node_task", "H", "use_reservation", "J", "use_resources", "bind", "b", "launch_distribution", "d"),
}


class JsrunSettings(RunSettings):
    """A program under `jsrun`; `run_args` are its options without dashes. See `RunSettings` for the rest.

    `make_mpmd` makes the start go by an explicit resource file (ERF), which lists the programs added by it and not this one.
    """

    reserved_run_args: ClassVar[set[str]] = {"chdir", "h"}
    launcher: ClassVar[Launcher] = "jsrun"

    def __init__(
        self,
        exe: str,
        exe_args: str | list[str] | None = None,
        run_args: Mapping[str, OptionValue] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        super().__init__(exe, exe_args, run_command="jsrun", run_args=run_args, env_vars=env_vars, **further)
        self.erf_sets = {"host": "*", "cpu": "*", "ranks": "1"}
        self.mpmd_preamble_lines: list[str] = []
        self.individual_suffix = ""

    def set_num_rs(self, num_rs: str | int) -> None:
        """Resource sets (`--nrs`), or `ALL_HOSTS`."""
        self.run_args["nrs"] = num_rs if isinstance(num_rs, str) else integer("num_rs", num_rs)

    def set_cpus_per_rs(self, cpus_per_rs: int | str) -> None:
        """CPUs a resource set (`--cpu_per_rs`), or `ALL_CPUS`.

        Raises:
            InputError: fewer than the colocated database takes.
        """
        if self.colocated_db_settings is not None and not isinstance(cpus_per_rs, str):
            taken = int(self.colocated_db_settings.get("db_cpus", 0) or 0)
            if not taken:
                raise InputError(
                    "db_cpus must be configured on colocated_db_settings: the CPUs of the colocated database"
                )
            if cpus_per_rs < taken:
                raise InputError(f"cpus_per_rs={cpus_per_rs} is less than the colocated database's db_cpus={taken}")
        self.run_args["cpu_per_rs"] = (
            cpus_per_rs if isinstance(cpus_per_rs, str) else integer("cpus_per_rs", cpus_per_rs)
        )

    def set_gpus_per_rs(self, gpus_per_rs: int | str) -> None:
        """GPUs a resource set (`--gpu_per_rs`), or `ALL_GPUS`."""
        self.run_args["gpu_per_rs"] = (
            gpus_per_rs if isinstance(gpus_per_rs, str) else integer("gpus_per_rs", gpus_per_rs)
        )

    def set_rs_per_host(self, rs_per_host: int) -> None:
        """Resource sets a host (`--rs_per_host`)."""
        self.run_args["rs_per_host"] = integer("rs_per_host", rs_per_host)

    def set_tasks(self, tasks: int) -> None:
        """Ranks in all (`--np`)."""
        self.run_args["np"] = integer("tasks", tasks)

    def set_tasks_per_rs(self, tasks_per_rs: int) -> None:
        """Ranks a resource set (`--tasks_per_rs`)."""
        self.run_args["tasks_per_rs"] = integer("tasks_per_rs", tasks_per_rs)

    def set_tasks_per_node(self, tasks_per_node: int) -> None:
        """Ranks a resource set: the nearest that `jsrun` knows to ranks a node."""
        self.set_tasks_per_rs(tasks_per_node)

    def set_cpus_per_task(self, cpus_per_task: int) -> None:
        """CPUs a resource set: the nearest that `jsrun` knows to CPUs a rank."""
        self.set_cpus_per_rs(integer("cpus_per_task", cpus_per_task))

    def set_memory_per_rs(self, memory_per_rs: int) -> None:
        """Memory a resource set, in megabytes (`--memory_per_rs`)."""
        self.run_args["memory_per_rs"] = integer("memory_per_rs", memory_per_rs)

    def set_memory_per_node(self, memory_per_node: int) -> None:
        """Memory a resource set, in megabytes."""
        self.set_memory_per_rs(integer("memory_per_node", memory_per_node))

    def set_binding(self, binding: str) -> None:
        """How ranks are bound (`--bind`), such as `packed:21`."""
        self.run_args["bind"] = binding

    def set_individual_output(self, suffix: str | None = None) -> None:
        """A file for each rank's output, named with `suffix` (`%t`, `%h`, … as in `jsrun`)."""
        self.run_args["stdio_mode"] = "individual"
        if suffix:
            self.individual_suffix = suffix

    def make_mpmd(self, settings: RunSettings) -> None:
        """List the program of `settings` in the resource file."""
        self._join(settings)

    def set_mpmd_preamble(self, preamble_lines: list[str]) -> None:
        """First lines of the resource file, such as `oversubscribe_cpu : allow`."""
        self.mpmd_preamble_lines = list(preamble_lines)

    def set_erf_sets(self, erf_sets: dict[str, str]) -> None:
        """This program's line in the resource file: `rank` or `rank_count`, `host`, `cpu`, `gpu`, `memory`."""
        self.erf_sets = copy.deepcopy(erf_sets)

    def erf_text(self) -> str:
        """The explicit resource file of the programs added by `make_mpmd`."""
        lines = [line for line in self.mpmd_preamble_lines if not line.lstrip().startswith("launch_distribution")]
        programs = "\n".join(f"app {index} : {' '.join(each._program())}" for index, each in enumerate(self.mpmd))
        sets = [each for each in self.mpmd if isinstance(each, JsrunSettings)]
        resources = "\n".join(each._erf_line(index) for index, each in enumerate(sets))
        return "\n".join([self._distribution(), *lines, "", programs, "", resources, ""])

    def format_run_args(self) -> list[str]:
        """The options as `jsrun` reads them, without those that the resource file says."""
        left_out = _OURS | _SAID_BY_ERF if self.mpmd or "erf_input" in self.run_args else _OURS
        return gnu_options({name: value for name, value in self.run_args.items() if name not in left_out})

    def format_env_vars(self) -> list[str]:
        """The variables as `-E name=value`; `-E name` exports the worker's."""
        formatted: list[str] = []
        for name, value in self.env_vars.items():
            formatted += ["-E", f"{name}={value}" if value else name]
        return formatted

    def command(self) -> CommandRecord:
        """The command line; with several programs `jsrun --erf_input`, the file's text beside it."""
        line = self._launch_line()
        if self.colocated_db_settings:
            line += ["--bind", "none"]
        if self.mpmd:
            return CommandRecord(
                head=(*line, "--erf_input", ERF_FILE), launcher=self.launcher, files={ERF_FILE: self.erf_text()}
            )
        return CommandRecord(
            head=(*line, *self._program()),
            launcher=self.launcher,
            tasks=self._tasks(),
            cpus_per_task=first_integer(self.run_args, "cpu_per_rs", "c"),
        )

    def prepare_colocated(self, db_cpus: int) -> None:
        """One resource set a host, with CPUs enough for the database beside it."""
        cpus = next((name for name in ("cpu_per_rs", "c") if self.run_args.get(name)), "cpu_per_rs")
        given = str(self.run_args.get(cpus) or 0)
        if given.isdecimal() and int(given) < db_cpus:
            self._change_colocated(cpus, db_cpus)
        sets = next((name for name in ("rs_per_host", "r") if name in self.run_args), "rs_per_host")
        if str(self.run_args.get(sets)) != "1":
            self._change_colocated(sets, 1)

    def _change_colocated(self, name: str, value: int) -> None:
        if name in self.run_args:
            logger.warning("%s=%s becomes %s with a colocated database", name, self.run_args[name], value)
        self.run_args[name] = value

    def _launch_line(self) -> list[str]:
        individual: list[str] = []
        if self.individual_suffix:
            for option, ending in (("stdio_stdout", "out"), ("stdio_stderr", "err")):
                individual += [f"--{option}", f"rank{self.individual_suffix}.{ending}"]
        return [str(self.run_command), *individual, *self.format_env_vars(), *self.format_run_args()]

    def _tasks(self) -> int | None:
        tasks = first_integer(self.run_args, "np", "p")
        if tasks is not None:
            return tasks
        sets = first_integer(self.run_args, "nrs", "n")
        return None if sets is None else sets * (first_integer(self.run_args, "tasks_per_rs", "a") or 1)

    def _distribution(self) -> str:
        for line in self.mpmd_preamble_lines:
            if line.lstrip().startswith("launch_distribution"):
                return line
        for settings in self.mpmd:
            chosen = settings.run_args.get("launch_distribution") or settings.run_args.get("d")
            if chosen:
                return f"launch_distribution : {chosen}"
        return "launch_distribution : packed"

    def _erf_line(self, index: int) -> str:
        sets = self.erf_sets
        ranks = f"rank: {sets['rank']}" if "rank" in sets else sets.get("rank_count", "1")
        parts = [f"host: {sets.get('host', '*')}", f"cpu: {sets.get('cpu', '*')}"]
        parts += [f"{name}: {sets[name]}" for name in ("gpu", "memory") if name in sets]
        return f"{ranks} : {{ {'; '.join(parts)} }}: app {index}"

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\nERF settings: {pformat(self.erf_sets)}" if self.mpmd else text


class BsubBatchSettings(BatchSettings):
    """A batch job of LSF.

    Parameters:
        nodes: nodes of the allocation.
        time: longest time, as hh:mm; the seconds of hh:mm:ss are dropped.
        project: the project that pays (`account` is another name of it).
        batch_args: further options of `bsub`, without dashes; None: an option without a value.
        smts: hardware threads a core, through `-alloc_flags`.
    """

    scheduler: ClassVar[Scheduler] = "lsf"
    easy_settings = ("ln_slots", "ln_mem", "cn_cu", "nnodes")
    """Options that expert mode does not know."""

    def __init__(
        self,
        nodes: int | None = None,
        time: str | None = None,
        project: str | None = None,
        batch_args: Mapping[str, str | None] | None = None,
        smts: int = 0,
        **further: Any,
    ) -> None:
        self.project: str | None = None
        self.walltime: str | None = None
        account = further.pop("account", None)
        super().__init__("bsub", batch_args, nodes=nodes, account=project or account, time=time, **further)
        self.smts = smts
        self.expert_mode = False

    def set_walltime(self, walltime: str) -> None:
        """Longest time, as hh:mm (`-W`)."""
        self.walltime = ":".join(walltime.split(":")[:2]) if walltime else walltime

    @property
    def walltime_seconds(self) -> float | None:
        """Of `-W`: minutes or hh:mm."""
        minutes = clock_seconds(str(self.walltime or ""))
        return None if minutes is None else minutes * 60

    def set_smts(self, smts: int) -> None:
        """Hardware threads a core; an `smt…` of your own in `alloc_flags` wins."""
        self.smts = smts

    def set_project(self, project: str) -> None:
        """The project that pays (`-P`)."""
        if project:
            self.project = project

    def set_account(self, account: str) -> None:
        """The project that pays."""
        self.set_project(account)

    def set_nodes(self, num_nodes: int) -> None:
        """Nodes of the allocation (`-nnodes`)."""
        if num_nodes:
            self.batch_args["nnodes"] = str(integer("num_nodes", num_nodes))

    def set_expert_mode_req(self, res_req: str, slots: int) -> None:
        """Ask in expert mode (`-csm y -R … -n …`); the easy options are left out then."""
        self.expert_mode = True
        self.batch_args.update({"csm": "y", "R": res_req, "n": str(slots)})

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts of the allocation (`-m`)."""
        self.batch_args["m"] = f'"{" ".join(host_names(host_list))}"'

    def set_tasks(self, tasks: int) -> None:
        """Job slots (`-n`)."""
        self.batch_args["n"] = str(integer("tasks", tasks))

    def set_queue(self, queue: str) -> None:
        """The queue to submit to (`-q`)."""
        if queue:
            self.batch_args["q"] = queue

    def _format_alloc_flags(self) -> None:
        flags = (self.batch_args.get("alloc_flags") or "").strip('"').split()
        if self.smts and not any(flag.startswith("smt") for flag in flags):
            flags.append(f"smt{self.smts}")
        if flags:
            text = " ".join(flags)
            self.batch_args["alloc_flags"] = f'"{text}"' if len(flags) > 1 else text

    def format_batch_args(self) -> list[str]:
        """The options as `#BSUB` lines have them; walltime and project are lines of their own."""
        self._format_alloc_flags()
        kept = {
            name: value
            for name, value in self.batch_args.items()
            if not (self.expert_mode and name in self.easy_settings)
        }
        return [f"-{name} {value}" if value else f"-{name}" for name, value in kept.items()]

    def headers(self, name: str, output: str, error: str) -> list[str]:
        """Shebang and `#BSUB` lines."""
        options = [f"-J {name}", f"-o {output}", f"-e {error}"]
        if self.walltime:
            options.append(f"-W {self.walltime}")
        if self.project:
            options.append(f"-P {self.project}")
        return ["#!/bin/bash", *(f"#BSUB {option}" for option in [*options, *self.format_batch_args()])]
