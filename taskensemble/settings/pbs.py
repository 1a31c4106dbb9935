"""PBS: `qsub`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from taskensemble.engine.allocation import Scheduler
from taskensemble.errors import InputError, InputTypeError
from taskensemble.settings.arguments import clock_seconds, host_names, integer
from taskensemble.settings.batch import BatchSettings
from taskensemble.settings.resources import Resources, checked


class QsubBatchSettings(BatchSettings):
    """A batch job of PBS.

    Parameters:
        nodes: nodes of the allocation; a `select` among the resources takes its place.
        ncpus: CPUs a node.
        time: longest time, as HH:MM:SS.
        queue: queue to submit to.
        account: the account that pays.
        resources: further `-l` resources.
        batch_args: further options of `qsub`, without dashes; every one needs a value.

    Raises:
        InputError: nodes given twice, or nodes and select both.
        InputTypeError: a resource has another type than str or int; nodes and select are int.
    """

    scheduler: ClassVar[Scheduler] = "pbs"

    def __init__(
        self,
        nodes: int | None = None,
        ncpus: int | None = None,
        time: str | None = None,
        queue: str | None = None,
        account: str | None = None,
        resources: Mapping[str, str | int] | None = None,
        batch_args: Mapping[str, str | None] | None = None,
        **further: Any,
    ) -> None:
        self._ncpus = ncpus
        self._hosts: list[str] = []
        self.resources = dict(resources or {})
        if nodes and self.resources.get("nodes"):
            raise InputError(
                f"nodes={nodes} was given as well as resources['nodes']={self.resources['nodes']}; give one of them"
            )
        super().__init__("qsub", batch_args, nodes=nodes, account=account, queue=queue, time=time, **further)

    @property
    def resources(self) -> Resources:
        """The `-l` resources: a copy; `set_resource` changes one."""
        return self._resources.copy()

    @resources.setter
    def resources(self, resources: Mapping[str, str | int]) -> None:
        new = checked(resources)
        if new.get("select") and new.get("nodes"):
            raise InputError(
                f"resources: 'select'={new['select']!r} and 'nodes'={new['nodes']!r} cannot both be specified; "
                "set_nodes sets 'nodes', set_resource may have set 'select': keep one"
            )
        for name in ("select", "nodes"):
            if new.get(name) and not isinstance(new[name], int):
                raise InputTypeError(f"resources[{name!r}]={new[name]!r} must be an int")
        self._resources = new

    def set_resource(self, resource_name: str, value: str | int) -> None:
        """Set one `-l` resource."""
        self.resources = {**self.resources, resource_name: value}

    def set_nodes(self, num_nodes: int) -> None:
        """Nodes of the allocation (`-l nodes=`)."""
        if num_nodes:
            self.set_resource("nodes", num_nodes)

    def set_ncpus(self, num_cpus: int | str) -> None:
        """CPUs a node, in the select statement."""
        self._ncpus = integer("num_cpus", num_cpus)

    def set_hostlist(self, host_list: str | list[str]) -> None:
        """Hosts of the allocation, in the select statement."""
        self._hosts = host_names(host_list)

    def set_walltime(self, walltime: str) -> None:
        """Longest time, as HH:MM:SS (`-l walltime=`)."""
        if walltime:
            self.set_resource("walltime", walltime)

    @property
    def walltime_seconds(self) -> float | None:
        """Of `-l walltime=`: seconds, MM:SS or HH:MM:SS."""
        return clock_seconds(str(self.resources.get("walltime", "")))

    def set_queue(self, queue: str) -> None:
        """The queue to submit to (`-q`)."""
        if queue:
            self.batch_args["q"] = str(queue)

    def set_account(self, account: str) -> None:
        """The account that pays (`-A`)."""
        if account:
            self.batch_args["A"] = str(account)

    def format_batch_args(self) -> list[str]:
        """The options as `#PBS` lines have them.

        Raises:
            InputError: an option without a value, or neither nodes nor select.
        """
        options = self._create_resource_list()
        for name, value in self.batch_args.items():
            if not value:
                raise InputError(
                    f"batch_args[{name!r}]={value!r}: PBS options without values are not allowed; give a value"
                )
            options.append(f"-{name} {value}")
        return options

    def _create_resource_list(self) -> list[str]:
        resources = self.resources
        for name in ("select", "nodes"):
            if resources.get(name):
                chunks = f"-l {name}={resources[name]}"
                break
        else:
            raise InputError(
                "nodes=None: PBS needs the number of nodes; call set_nodes(n) or set_resource('select', n)"
            )
        if self._ncpus:
            chunks += f":ncpus={self._ncpus}"
        if self._hosts:
            chunks += ":" + "+".join(f"host={host}" for host in self._hosts)
        return [chunks, *(f"-l {name}={value}" for name, value in resources.items() if name not in ("select", "nodes"))]

    def headers(self, name: str, output: str, error: str) -> list[str]:
        """Shebang and `#PBS` lines."""
        options = [f"-N {name}", f"-o {output}", f"-e {error}", *self.format_batch_args()]
        return ["#!/bin/bash", *(f"#PBS {option}" for option in options)]
