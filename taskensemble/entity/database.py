"""A database: the description of a standard one, and the address of the one that runs from it."""

from __future__ import annotations

import inspect
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from taskensemble.checked import checked, unknown_argument
from taskensemble.entity.colocated import check_threads
from taskensemble.entity.entity import Entity
from taskensemble.errors import DatabaseError, InputError, InputTypeError, UnsupportedError

if TYPE_CHECKING:
    from taskensemble.settings import BatchSettings, RunSettings

logger = logging.getLogger(__name__)

UNNAMED = "orchestrator"
"""The identifier of the database whose address is in SSDB without a suffix."""

RUN_COMMANDS: dict[str, tuple[str, ...]] = {
    "local": ("",),
    "slurm": ("srun", "mpirun", "mpiexec"),
    "pbs": ("aprun", "mpirun", "mpiexec"),
    "pals": ("mpiexec",),
    "lsf": ("jsrun",),
    "sge": ("mpirun", "mpiexec", "orterun"),
}
"""What can start a database's nodes under each launcher."""

_MPI_RESERVED = frozenset({"np", "N", "c", "output-filename", "n", "wdir", "wd", "host"})
_SLURM_RESERVED = frozenset(
    {
        "nodes",
        "N",
        "ntasks",
        "n",
        "ntasks-per-node",
        "output",
        "o",
        "error",
        "e",
        "job-name",
        "J",
        "jobid",
        "multi-prog",
        "w",
    }
    | {"chdir", "D"}
)
RESERVED_RUN_ARGS: dict[str, frozenset[str]] = {
    "mpirun": _MPI_RESERVED,
    "mpiexec": _MPI_RESERVED,
    "orterun": _MPI_RESERVED,
    "srun": _SLURM_RESERVED,
    "aprun": frozenset({"pes", "n", "pes-per-node", "N", "l", "pes-per-numa-node", "S", "wdir"}),
    "jsrun": frozenset(
        {
            "chdir",
            "h",
            "stdio_stdout",
            "o",
            "stdio_stderr",
            "k",
            "tasks_per_rs",
            "a",
            "np",
            "p",
            "cpu_per_rs",
            "c",
            "gpu_per_rs",
        }
        | {
            "g",
            "latency_priority",
            "l",
            "memory_per_rs",
            "m",
            "nrs",
            "n",
            "rs_per_host",
            "r",
            "rs_per_socket",
            "K",
            "appfile",
        }
        | {"f", "allocate_only", "A", "launch_node_task", "H", "use_reservation", "J", "use_resources", "bind", "b"}
        | {"launch_distribution", "d"}
    ),
}
"""Arguments of a run command that say where a node goes, which the database decides."""
RESERVED_BATCH_ARGS: dict[str, frozenset[str]] = {
    "slurm": _SLURM_RESERVED,
    "pbs": frozenset({"e", "o", "N", "l"}),
    "lsf": frozenset({"J", "o", "e", "m", "n", "nnodes"}),
    "sge": frozenset({"e", "o", "N"}),
}


class RunningDatabase(Protocol):
    """What a description needs to know of the servers that run from it."""

    def is_active(self) -> bool:
        """Whether every server answers."""

    def hosts(self) -> Sequence[str]:
        """Where the servers run."""

    def addresses(self) -> Sequence[str]:
        """`host:port` of every server."""

    def configure(self, key: str, value: str) -> None:
        """Set a configuration on every server. Raises DatabaseError when the server refuses it."""


class DatabaseNode(Entity):
    """One server of a database, or, started by one command, all of them."""

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str] | None,
        run_settings: RunSettings | None,
        ports: list[int],
        output_files: list[str],
        db_identifier: str = "",
    ) -> None:
        super().__init__(name, path, run_settings)
        if not output_files:
            raise InputError("output_files cannot be empty")
        if not isinstance(output_files, list) or not all(isinstance(file, str) for file in output_files):
            raise InputError(f"output_files={output_files!r} must be of type list[str]")
        self.ports = ports
        self.output_files = output_files
        self.db_identifier = db_identifier
        self._hosts: list[str] = []

    @property
    def is_mpmd(self) -> bool:
        """Whether one command starts several servers."""
        return bool(getattr(self.run_settings, "mpmd", None))

    @property
    def num_shards(self) -> int:
        """How many servers it is."""
        return len(getattr(self.run_settings, "mpmd", None) or ()) + 1

    @property
    def hosts(self) -> list[str]:
        """Where it was said to run, or runs."""
        return self._hosts

    @property
    def host(self) -> str:
        """Its one host.

        Raises:
            InputError: it has several, or none yet.
        """
        if len(self._hosts) != 1:
            raise InputError(f"Multiple hosts detected for this DB Node: {', '.join(self._hosts) or 'none yet'}")
        return self._hosts[0]

    def set_hosts(self, hosts: list[str]) -> None:
        """Say where it runs."""
        self._hosts = [str(host) for host in hosts]

    def clear_hosts(self) -> None:
        """Forget where it runs."""
        self._hosts = []

    def remove_stale_dbnode_files(self) -> None:
        """Remove what an earlier launch of this node left: its output and, of a cluster, its configuration."""
        shards = [self.name] if self.num_shards == 1 else [f"{self.name}_{shard}" for shard in range(self.num_shards)]
        names = [f"{self.name}{ending}" for ending in (".err", ".out", ".mpmd")]
        names += [f"nodes-{shard}-{port}.conf" for shard in shards for port in self.ports]
        names += [f"{shard}{ending}" for shard in shards for ending in (".err", ".out")]
        for name in names:
            path = os.path.join(self.path, name)
            if os.path.exists(path):
                os.remove(path)


@partial(checked, leave=("set_db_conf",))
class Database(Entity):
    """A standard database: one server, or a cluster of three and more.

    Args:
        path: its folder; None: one below the experiment's.
        port: where it listens; the shards of a cluster on one machine take the ports from there upward. 0: any free one.
        interface: network interface, or several.
        launcher: local, slurm, pbs, pals, lsf, sge, or auto.
        run_command: what starts its nodes in an allocation; "auto": the first that is found for the launcher.
        db_nodes: how many servers; not 2, which no cluster can have.
        batch: start it in a batch job of its own.
        hosts: where its nodes go.
        account, time: of the batch job.
        alloc: the allocation it starts in.
        single_cmd: start all nodes by one command.
        threads_per_queue, inter_op_threads, intra_op_threads: threads of the inference: of a device, between and within
            operations; None and 0: as many as the backend chooses.
        restricted: limit by ACL what members may do: no CONFIG, MODULE, DEBUG, SHUTDOWN and the like. SmartRedis' config_get,
            config_set, save and flush_db fail then.
        db_identifier: names it among several; members find its address in SSDB_<identifier>.
        linger: seconds that its batch job goes on when nobody uses it: no driver that started or reconnected to it lives, no
            run of the experiment is unfinished, no client sends commands. `math.inf`: until it is stopped or its time is up.
            None: 30 with an embedded control plane, 300 with one that outlives drivers.
        batch_keywords: further arguments of the batch settings.

    Raises:
        UnsupportedError: two nodes, or an unknown launcher.
        InputError, InputTypeError: a value that cannot be used.
    """

    node_class: ClassVar[type[DatabaseNode]] = DatabaseNode
    """What `entities` are; `taskensemble.smartsim` has its own."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        port: int = 6379,
        interface: str | list[str] = "lo",
        launcher: str = "local",
        run_command: str = "auto",
        db_nodes: int = 1,
        batch: bool = False,
        hosts: list[str] | str | None = None,
        account: str | None = None,
        time: str | None = None,
        alloc: str | None = None,
        single_cmd: bool = False,
        *,
        threads_per_queue: int | None = None,
        inter_op_threads: int | None = None,
        intra_op_threads: int | None = None,
        restricted: bool = False,
        db_identifier: str = UNNAMED,
        linger: float | None = None,
        **batch_keywords: Any,
    ) -> None:
        super().__init__(db_identifier, path, None)
        self.launcher, self.run_command = _starter(launcher, run_command)
        if self.launcher == "local" and batch:
            raise InputError("batch=True: Local orchestrator can not be launched with batch=True; leave batch out")
        self._port = _check_port(port)
        self.interfaces = _check_interfaces(interface, self.launcher)
        self.threads_per_queue = check_threads("threads_per_queue", threads_per_queue)
        self.inter_op_threads = check_threads("inter_op_threads", inter_op_threads)
        self.intra_op_threads = check_threads("intra_op_threads", intra_op_threads)
        self.restricted = restricted
        self.alloc = alloc
        self.single_cmd = bool(single_cmd) and self.launcher != "local"
        self.linger = _check_linger(linger, batch)
        self.batch_settings: BatchSettings | None = None
        self.running: RunningDatabase | None = None
        self._user_hosts: list[str] = []
        self.entities = self._nodes(_check_nodes(db_nodes))
        if batch and not alloc:
            self.batch_settings = self._make_batch_settings(account, time, batch_keywords)
        elif batch_keywords:
            known = [name for name in inspect.signature(type(self)).parameters if name != "batch_keywords"]
            raise InputTypeError(
                f"{unknown_argument(next(iter(batch_keywords)), known)}; those of batch settings need batch=True"
            )
        if hosts:
            self.set_hosts(hosts)
        elif self.launcher != "local" and run_command in ("mpirun", "mpiexec", "orterun"):
            raise InputError(f"hosts: hosts argument required when launching Orchestrator with {run_command}")

    def _nodes(self, count: int) -> list[DatabaseNode]:
        names = [f"{self.name}_{number}" for number in range(count)]
        if count > 1 and (self.single_cmd or self.launcher == "lsf"):
            settings = self._make_run_settings(names[0])
            for name in names[1:]:
                further = self._make_run_settings(name)
                if settings is not None and further is not None:
                    settings.make_mpmd(further)
            return [self.node_class(names[0], self._path, settings, [self._port], [f"{names[0]}.out"], self.name)]
        spread = self.launcher == "local" and self._port
        return [
            self.node_class(
                name,
                self._path,
                self._make_run_settings(name),
                [self._port + number if spread else self._port],
                [f"{name}.out"],
                self.name,
            )
            for number, name in enumerate(names)
        ]

    def _make_run_settings(self, name: str) -> RunSettings | None:
        """How one node is started. A local one needs no run command."""
        if self.launcher == "local":
            return None
        from taskensemble.settings import create_run_settings

        settings = create_run_settings(
            self.launcher,
            sys.executable,
            ["-m", "taskensemble", "db", "start", "--name", name],
            run_command=self.run_command,
        )
        settings.set_tasks(1)
        settings.set_tasks_per_node(1)
        return settings

    def _make_batch_settings(self, account: str | None, time: str | None, keywords: dict[str, Any]) -> BatchSettings:
        from taskensemble.settings import create_batch_settings

        return create_batch_settings(
            self.launcher, nodes=self.num_shards, time=time or "", account=account or "", **keywords
        )

    # What it is

    @property
    def type(self) -> str:
        """The name of its class: Database, or what a driver calls its own."""
        return type(self).__name__

    @property
    def db_identifier(self) -> str:
        """What names it among several databases."""
        return self.name

    @property
    def num_shards(self) -> int:
        """How many servers it is."""
        return sum(node.num_shards for node in self.entities)

    @property
    def db_nodes(self) -> int:
        """How many servers it is: each has a node of its own, or a port."""
        return self.num_shards

    @property
    def ports(self) -> list[int]:
        """The ports its servers listen on, each once."""
        return list(dict.fromkeys(port for node in self.entities for port in node.ports))

    @property
    def batch(self) -> Any:
        """The batch settings, if it runs in a batch job of its own; else something false."""
        return self.batch_settings

    @property
    def checkpoint_file(self) -> str:
        """The file that `Experiment.reconnect_orchestrator` finds the running database by."""
        return os.path.join(self.path, "taskensemble_db.json")

    def __len__(self) -> int:
        return len(self.entities)

    def __iter__(self) -> Iterator[DatabaseNode]:
        return iter(self.entities)

    def __getitem__(self, name: str) -> DatabaseNode:
        for node in self.entities:
            if node.name == name:
                return node
        raise KeyError(f"no node {name!r} in database {self.name!r}")

    def set_path(self, path: str) -> None:
        """Choose the folder of its servers' files."""
        super().set_path(path)
        for node in self.entities:
            node.path = path

    def place(self, path: str) -> None:
        """Give it this folder unless one was chosen."""
        super().place(path)
        for node in self.entities:
            node.place(self.path)

    # What runs from it

    def is_active(self) -> bool:
        """Whether its servers run and answer."""
        return self.running is not None and self.running.is_active()

    @property
    def hosts(self) -> list[str]:
        """Where its servers run; where they were said to, before."""
        if self.running is not None:
            return list(self.running.hosts())
        return [host for node in self.entities for host in node.hosts]

    @property
    def wanted_hosts(self) -> list[str]:
        """Where the user said that its servers are to run; empty: anywhere."""
        return list(self._user_hosts)

    def get_address(self) -> list[str]:
        """`host:port` of every server.

        Raises:
            DatabaseError: it is not active.
        """
        running = self._active("its address")
        return list(running.addresses())

    def _active(self, what: str) -> RunningDatabase:
        if self.running is None or not self.running.is_active():
            raise DatabaseError(f"Database {self.name!r} is not active; it must be active for {what}: start it first")
        return self.running

    def reset_hosts(self) -> None:
        """Forget where the servers ran, back to what the user said."""
        for node in self.entities:
            node.clear_hosts()
        if self._user_hosts:
            self.set_hosts(self._user_hosts)

    def remove_stale_files(self) -> None:
        """Remove the output and cluster configuration that an earlier launch left."""
        for node in self.entities:
            node.remove_stale_dbnode_files()

    # Configuration of the running servers

    def set_db_conf(self, key: str, value: str) -> None:
        """Set any configuration of the running servers, at once.

        Raises:
            DatabaseError: the database is not active, or a server refuses the key or the value.
            InputTypeError: one of them is no text.
        """
        running = self._active("a configuration")
        if not isinstance(key, str) or not isinstance(value, str):
            raise InputTypeError(
                f"key={key!r}, value={value!r}: the key and value of a database's configuration must be strings"
            )
        running.configure(key, value)

    def enable_checkpoints(self, frequency: int) -> None:
        """Save to disk every `frequency` seconds in which something was written."""
        self.set_db_conf("save", f"{frequency} 1")

    def set_max_memory(self, mem: str) -> None:
        """Limit the memory, such as "3gb"; beyond it, keys are removed by the eviction strategy. 0: no limit."""
        self.set_db_conf("maxmemory", mem)

    def set_eviction_strategy(self, strategy: str) -> None:
        """Say what is removed beyond the memory limit, such as "allkeys-lru"."""
        self.set_db_conf("maxmemory-policy", strategy)

    def set_max_clients(self, clients: int = 50_000) -> None:
        """Limit the connections at one time."""
        self.set_db_conf("maxclients", str(clients))

    def set_max_message_size(self, size: int = 1_073_741_824) -> None:
        """Limit the size of one string, in bytes; 1 MiB or more."""
        self.set_db_conf("proto-max-bulk-len", str(size))

    # Where and how the servers start

    def set_cpus(self, num_cpus: int) -> None:
        """Give each server so many CPUs."""
        if isinstance(num_cpus, bool) or not isinstance(num_cpus, int) or num_cpus < 1:
            raise InputError(f"num_cpus={num_cpus!r}; give a whole number of 1 or more")
        batch: Any = self.batch_settings
        if batch:
            for name in ("set_ncpus", "set_cpus_per_task"):
                if hasattr(batch, name):
                    getattr(batch, name)(num_cpus)
        for settings in self._each_run_settings():
            settings.set_cpus_per_task(num_cpus)

    def set_walltime(self, walltime: str) -> None:
        """Limit the time of its batch job, as HH:MM:SS.

        Raises:
            InputError: it runs in no batch job of its own.
        """
        if self.batch_settings is None:
            raise InputError("Not running as batch, cannot set walltime; create the database with batch=True")
        self.batch_settings.set_walltime(walltime)

    def set_hosts(self, host_list: list[str] | str) -> None:
        """Say where the servers go: a host for each.

        Raises:
            InputTypeError: it is neither a host nor a list of hosts.
        """
        hosts = [host_list.strip()] if isinstance(host_list, str) else host_list
        if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
            raise InputTypeError(f"host_list argument must be a list of strings: {host_list!r}")
        self._user_hosts = list(hosts)
        if self.batch_settings is not None:
            self.batch_settings.set_hostlist(list(hosts))
        if self.launcher == "lsf":
            for node in self.entities:
                node.set_hosts(hosts)
            return
        if self.launcher == "pals" and self.entities[0].is_mpmd:
            # PALS takes its hosts once, before the first program.
            self.entities[0].run_settings.set_hostlist(list(hosts))  # type: ignore[union-attr]
            return
        for host, settings in zip(hosts, self._each_run_settings(), strict=False):
            if self.run_command == "aprun" and self.batch_settings is not None:
                continue
            settings.set_hostlist([host])

    def set_batch_arg(self, arg: str, value: str | None = None) -> None:
        """Set an argument of its batch job. One that the database decides itself is refused with a warning.

        Raises:
            InputError: it runs in no batch job of its own.
        """
        if self.batch_settings is None:
            raise InputError("Not running as batch, cannot set batch_arg; create the database with batch=True")
        if arg in RESERVED_BATCH_ARGS.get(self.launcher, ()):
            logger.warning("Can not set batch argument %s: it is a reserved keyword in Orchestrator", arg)
            return
        self.batch_settings.batch_args[arg] = value

    def set_run_arg(self, arg: str, value: str | None = None) -> None:
        """Set an argument of its run command. One that the database decides itself is refused with a warning."""
        if arg in RESERVED_RUN_ARGS.get(self.run_command, ()):
            logger.warning("Can not set run argument %s: it is a reserved keyword in Orchestrator", arg)
            return
        for settings in self._each_run_settings():
            settings.run_args[arg] = value

    def _each_run_settings(self) -> Iterator[Any]:
        for node in self.entities:
            if node.run_settings is not None:
                yield node.run_settings
                yield from getattr(node.run_settings, "mpmd", None) or ()


def _starter(launcher: str, run_command: str) -> tuple[str, str]:
    """The launcher and the run command, each found where it is "auto"."""
    if launcher == "auto":
        from taskensemble.settings import detect_launcher

        launcher = detect_launcher()
    if launcher not in RUN_COMMANDS:
        raise UnsupportedError(f"launcher={launcher!r} cannot start a database; use {', '.join(RUN_COMMANDS)} or auto")
    known = RUN_COMMANDS[launcher]
    if run_command == "auto":
        run_command = next((command for command in known if not command or shutil.which(command)), "auto")
    if run_command == "auto":
        raise InputError(
            f"run_command: Could not automatically detect a run command to use for launcher {launcher}; looked for "
            f"{', '.join(known)}; put one on PATH"
        )
    if run_command not in known:
        raise InputError(
            f"run_command: Run command {run_command!r} is not supported on launcher {launcher}; "
            + (f"use {', '.join(filter(None, known))}" if any(known) else "leave it out")
        )
    return launcher, run_command


def _check_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int):
        raise InputTypeError(f"port={port!r} is a {type(port).__name__}; give a number from 0 (any free one) to 65535")
    if not 0 <= port <= 65535:
        raise InputError(f"port={port}; give a number from 0 (any free one) to 65535")
    return port


def _check_linger(linger: object, batch: bool) -> float | None:
    if linger is None:
        return None
    if isinstance(linger, bool) or not isinstance(linger, int | float):
        raise InputTypeError(f"linger={linger!r} is a {type(linger).__name__}; give seconds")
    if not linger >= 0:
        raise InputError(f"linger={linger!r}: give seconds, 0 or more")
    if not batch:
        raise InputError(f"linger={linger!r} says when a batch job ends; give batch=True with it")
    return float(linger)


def _check_nodes(db_nodes: object) -> int:
    try:
        count = int(db_nodes)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise InputTypeError(f"db_nodes={db_nodes!r} is no number of nodes") from None
    if count == 2:
        raise UnsupportedError("db_nodes=2: Orchestrator does not support clusters of size 2; use 1, or 3 and more")
    if count < 1:
        raise InputError(f"db_nodes={count}; give 1, or 3 and more")
    return int(count)


def _check_interfaces(interface: object, launcher: str) -> list[str]:
    interfaces = [interface] if isinstance(interface, str) else interface
    if not isinstance(interfaces, list) or not interfaces or not all(isinstance(name, str) for name in interfaces):
        raise InputTypeError(f"interface={interface!r}; give the name of a network interface, or a list of names")
    here = [name for _, name in socket.if_nameindex()]
    for name in interfaces:
        if name not in here:
            logger.warning(
                "interface: %s is no network interface of this node, which has %s%s", name, ", ".join(here),
                "" if launcher == "local" else "; if the compute nodes have it, ignore this",
            )  # fmt: skip
    return interfaces
