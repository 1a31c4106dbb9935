"""Grid Engine: `qsub`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from taskensemble.engine.allocation import Scheduler
from taskensemble.errors import InputError, LauncherUnsupportedError
from taskensemble.settings.arguments import clock_seconds, integer
from taskensemble.settings.batch import BatchSettings
from taskensemble.settings.resources import Resources, checked


class SgeQsubBatchSettings(BatchSettings):
    """A batch job of Grid Engine.

    Parameters:
        time: longest time, as HH:MM:SS.
        ncpus: slots of the parallel environment.
        pe_type: the parallel environment, such as `mpi` or `smp`; goes with `ncpus`.
        account: the account that pays.
        shebang: first line of the script.
        resources: further `-l` resources.
        batch_args: further options of `qsub`, without dashes; every one needs a value.

    Raises:
        LauncherUnsupportedError: a queue or hosts were asked for: Grid Engine chooses by resources.
    """

    scheduler: ClassVar[Scheduler] = "sge"

    def __init__(
        self,
        time: str | None = None,
        ncpus: int | None = None,
        pe_type: str | None = None,
        account: str | None = None,
        shebang: str = "#!/bin/bash -l",
        resources: Mapping[str, str | int] | None = None,
        batch_args: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        # Slots, not nodes, are what Grid Engine hands out; `create_batch_settings` passes nodes to every scheduler.
        further.pop("nodes", None)
        self._context_variables: list[str] = []
        self._env_vars: dict[str, str] = {}
        self.shebang = shebang
        self.resources = dict(resources or {})
        if ncpus:
            self.set_ncpus(ncpus)
        if pe_type:
            self.set_pe_type(pe_type)
        super().__init__("qsub", batch_args, account=account, time=time, **further)

    @property
    def resources(self) -> Resources:
        """The `-l` resources: a copy; `set_resource` changes one."""
        return self._resources.copy()

    @resources.setter
    def resources(self, resources: Mapping[str, str | int]) -> None:
        self._resources = checked(resources)

    def set_resource(self, resource_name: str, value: str | int) -> None:
        """Set one `-l` resource."""
        self.resources = {**self.resources, resource_name: value}

    def set_shebang(self, shebang: str) -> None:
        """First line of the script."""
        self.shebang = shebang

    def set_nodes(self, num_nodes: int) -> None:
        """Not possible here, but for 0 or None."""
        if num_nodes:
            raise LauncherUnsupportedError(
                f"num_nodes={num_nodes}: SGE does not support setting the number of nodes; use set_pe_type and set_ncpus"
            )

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Not possible here."""
        raise LauncherUnsupportedError(
            f"host_list={host_list!r}: SGE does not support requesting specific hosts in batch jobs; use set_resource"
        )

    def set_queue(self, queue: str) -> None:
        """Not possible here."""
        raise LauncherUnsupportedError(f"queue={queue!r}: SGE does not support specifying queues; use set_resource")

    def set_walltime(self, walltime: str) -> None:
        """Longest time, as HH:MM:SS (`-l h_rt=`)."""
        if walltime:
            self.set_resource("h_rt", walltime)

    @property
    def walltime_seconds(self) -> float | None:
        """Of `-l h_rt=`: seconds or HH:MM:SS."""
        return clock_seconds(str(self.resources.get("h_rt", "")))

    def set_ncpus(self, num_cpus: int | str) -> None:
        """Slots of the parallel environment."""
        self.set_resource("ncpus", integer("num_cpus", num_cpus))

    def set_ngpus(self, num_gpus: int | str) -> None:
        """GPUs a node (`-l gpu=`)."""
        self.set_resource("gpu", num_gpus)

    def set_account(self, account: str) -> None:
        """The account that pays (`-A`)."""
        if account:
            self.batch_args["A"] = str(account)

    def set_project(self, project: str) -> None:
        """The project (`-P`)."""
        if project:
            self.batch_args["P"] = str(project)

    def update_context_variables(
        self, action: Literal["ac", "sc", "dc"], var_name: str, value: int | str | None = None
    ) -> None:
        """Add (`ac`), set (`sc`) or delete (`dc`) a context variable; the calls count in their order.

        Raises:
            InputError: another action, or a value with `dc`.
        """
        if action not in ("ac", "sc", "dc"):
            raise InputError(f"action={action!r} must be ac, sc or dc")
        if action == "dc" and value:
            raise InputError(f"value={value!r}: deleting a context variable (dc) takes no value")
        self._context_variables.append(f"-{action} {var_name}={value}" if value else f"-{action} {var_name}")

    def set_hyperthreading(self, enable: bool = True) -> None:
        """Whether hardware threads count as CPUs (`-l threads=`)."""
        self.set_resource("threads", int(enable))

    def set_memory_per_pe(self, memory_spec: str) -> None:
        """Memory a slot, such as 2G (`-l mem=`)."""
        self.set_resource("mem", memory_spec)

    def set_pe_type(self, pe_type: str) -> None:
        """The parallel environment (`-pe`)."""
        if pe_type:
            self.set_resource("pe_type", pe_type)

    def set_threads_per_pe(self, threads_per_core: int) -> None:
        """`OMP_NUM_THREADS` of the job."""
        self._env_vars["OMP_NUM_THREADS"] = str(threads_per_core)

    def format_batch_args(self) -> list[str]:
        """The options as `#$` lines have them.

        Raises:
            InputError: an empty value (None: an option without one), or one of ncpus and pe_type without the other.
        """
        options = self._create_resource_list()
        for name, value in self.batch_args.items():
            if value is not None and not value:
                raise InputError(
                    f"batch_args[{name!r}]={value!r} is empty; give a value, or None for an option without one"
                )
            options.append(f"-{name}" if value is None else f"-{name} {value}")
        return options

    def _create_resource_list(self) -> list[str]:
        resources = self.resources
        ncpus, pe_type = resources.pop("ncpus", None), resources.pop("pe_type", None)
        if bool(ncpus) != bool(pe_type):
            raise InputError(f"{ncpus=} and {pe_type=} must both be set; call set_ncpus and set_pe_type")
        environment = [f"-pe {pe_type} {ncpus}"] if pe_type else []
        wanted = [f"-l {name}={value}" for name, value in resources.items()]
        return [*environment, *self._context_variables, *wanted, *(f"-v {k}={v}" for k, v in self._env_vars.items())]

    def headers(self, name: str, output: str, error: str) -> list[str]:
        """Shebang and `#$` lines."""
        options = [f"-o {output}", f"-e {error}", f"-N {name}", *self.format_batch_args()]
        return [self.shebang, *(f"#$ {option}" for option in options)]
