"""A standard database: its servers, the supervisor of their inference workers, and the record that says where it answers."""

from __future__ import annotations

import itertools
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from taskensemble.engine.host import start_time
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.errors import DatabaseError, DatabaseFilesError, InputError

from .cluster import form_cluster
from .connection import Refused, connected, login
from .server import (
    LONGEST_SOCKET_PATH,
    Process,
    ServerOptions,
    free_port,
    free_socket,
    interface_address,
    pinned,
    start_server,
    wait_gone,
    wait_ready,
)

_SUPERVISED_WITHIN = 60.0
_RESTARTED_WITHIN = 60
"""Seconds for which the supervisor waits for a server that is started again."""
_children: list[subprocess.Popen[bytes]] = []
"""What this process has started: a process that ends here must be waited for here."""


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """A database to start on this node.

    Attributes:
        name: of its log, configuration and dump files.
        folder: where they go.
        identifier: what its address record carries.
        port: of the first shard; the further shards take the next ones. 0: any free one, or none with a Unix socket.
        interfaces: network interfaces or addresses to listen on; clients are told the first.
        unix_socket: path of a socket to listen on besides; clients are told it then.
        socket_permissions: of that socket.
        shards: servers; three and more make a cluster.
        part: numbers of the shards to start here, of a cluster whose others start elsewhere: the caller forms it. None: all.
        settings: configuration as in valkey.conf: maxmemory, save, …
        module_arguments: of the AI module, such as ("MODEL_EXECUTION_TIMEOUT", "5000").
        restricted: limit by ACL what clients without a password may do.
        secret: the administrator's password on a restricted database; None: a new one.
        cpus: CPUs that the servers and their workers may use; empty: any.
        owner: pid of the process that it ends with, however that ends; None: this process; 0: none.
        restart: start a server again that a signal has killed, and offer it its inference workers again.
        supervise: whether inference workers are started on demand.
        workers_per_device: most inference workers for each backend and device.
        gpus: GPUs to offer; None: those of this node.
        intra_op_threads, inter_op_threads: threads of the backends; 0: their own choice.
        poll: microseconds that a worker polls its socket before it sleeps; None: 200 with two cores or more.
    """

    name: str
    folder: Path
    identifier: str = ""
    port: int = 0
    interfaces: tuple[str, ...] = ("lo",)
    unix_socket: str | None = None
    socket_permissions: int = 0o755
    shards: int = 1
    part: tuple[int, ...] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    module_arguments: tuple[str, ...] = ()
    restricted: bool = False
    secret: str | None = field(default=None, repr=False)
    cpus: tuple[int, ...] = ()
    owner: int | None = None
    restart: bool = False
    supervise: bool = True
    workers_per_device: int = 1
    gpus: int | None = None
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    poll: int | None = None


def start_database(
    options: DatabaseOptions, part_answers: Callable[[DatabaseAddressRecord], None] | None = None
) -> DatabaseAddressRecord:
    """Start a database and wait until it answers, a cluster until it is healthy.

    Arguments:
        options: what to start.
        part_answers: called with the servers of a cluster's part once they answer; supervision waits for the cluster.
    Returns:
        Its address. The record's user and password are the administrator's of a restricted database; members need
            none.
    Raises:
        InputError: an argument cannot be used.
        DatabaseError: it could not be started; then nothing of it is left.
    """
    servers = _servers(options)
    processes: list[subprocess.Popen[bytes]] = []
    supervisor: subprocess.Popen[bytes] | None = None
    try:
        for server in servers:
            processes.append(start_server(server))
        report = -1
        if options.supervise:
            supervisor, report = _start_supervisor(options, servers)
        pids = [wait_ready(server, process) for server, process in zip(servers, processes, strict=True)]
        if options.shards > 1 and options.part is None:
            form_cluster([server.address for server in servers], servers[0].login)
        if part_answers is not None:
            part_answers(_record(options, servers, pids))
        if supervisor is not None:
            _wait_supervised(options, supervisor, report)
            pids.append(supervisor.pid)
        if options.restart:
            pids += [process.pid for process in processes]
    except BaseException:
        for process in (*processes, *([supervisor] if supervisor else [])):
            process.terminate()
        for process in (*processes, *([supervisor] if supervisor else [])):
            _end(process)
        raise
    _children.extend(processes)
    if supervisor is not None:
        _children.append(supervisor)
    return _record(options, servers, pids)


def _record(options: DatabaseOptions, servers: Sequence[ServerOptions], pids: Sequence[int]) -> DatabaseAddressRecord:
    known = servers[0].login
    return DatabaseAddressRecord(
        identifier=options.identifier,
        addresses=tuple(server.address for server in servers),
        cluster=options.shards > 1,
        processes=tuple(pids),
        begun=tuple(map(start_time, pids)),
        host=socket.gethostname(),
        user=known.user if known else "",
        password=known.password if known else None,
    )


def _servers(options: DatabaseOptions) -> list[ServerOptions]:
    if options.shards < 1 or options.shards == 2:
        raise InputError(f"shards={options.shards}: a database is one server, or a cluster of three or more")
    if options.unix_socket and options.shards > 1:
        raise InputError("unix_socket: a cluster cannot listen on a Unix socket")
    if options.unix_socket and len(os.fsencode(options.unix_socket)) > LONGEST_SOCKET_PATH:
        raise InputError(
            f"unix_socket={options.unix_socket!r}: longer than {LONGEST_SOCKET_PATH} bytes; choose a shorter path"
        )
    hosts = tuple(dict.fromkeys(interface_address(interface) for interface in options.interfaces))
    if not hosts:
        raise InputError("interfaces: give at least one network interface")
    clustered = options.shards > 1
    secret = (options.secret or secrets.token_hex(16)) if options.restricted else None
    servers = []
    for place, index in enumerate(range(options.shards) if options.part is None else options.part):
        port = options.port + place if options.port else 0
        if not port and not options.unix_socket:
            port = free_port(hosts[0], cluster=clustered)
        name = f"{options.name}_{index}" if clustered else options.name
        folder = options.folder.absolute()
        for_workers = options.supervise and not options.unix_socket
        servers.append(
            ServerOptions(
                name=name,
                folder=folder,
                port=port,
                hosts=hosts,
                unix_socket=options.unix_socket,
                socket_permissions=options.socket_permissions,
                worker_socket=free_socket(folder, f"{name}-{port}") if for_workers else None,
                settings=options.settings,
                module_arguments=_module_arguments(options),
                cluster=clustered,
                secret=secret,
                cpus=options.cpus,
                owner=os.getpid() if options.owner is None else options.owner,
                restart=options.restart,
            )
        )
    return servers


def _module_arguments(options: DatabaseOptions) -> tuple[str, ...]:
    """The module's arguments; the threads are told to the workers, and here only for those who read the server's INFO."""
    told: list[str] = []
    if options.workers_per_device > 1:
        told += ["THREADS_PER_QUEUE", str(options.workers_per_device)]
    if options.intra_op_threads:
        told += ["INTRA_OP_PARALLELISM", str(options.intra_op_threads)]
    if options.inter_op_threads:
        told += ["INTER_OP_PARALLELISM", str(options.inter_op_threads)]
    return (*told, *options.module_arguments)


def _start_supervisor(options: DatabaseOptions, servers: list[ServerOptions]) -> tuple[subprocess.Popen[bytes], int]:
    """Start the supervisor; it waits for the servers itself, and says on the descriptor when they know it."""
    report, told = os.pipe()
    command = [sys.executable, "-P", "-m", "workers.inference", "supervisor", "--report", str(told)]
    for server in servers:
        command += ["--db", server.worker_address]
    command += ["--workers-per-device", str(options.workers_per_device)]
    if options.restart:
        command += ["--patience", str(_RESTARTED_WITHIN), "--owner", str(servers[0].owner)]
    if options.gpus is not None:
        command += ["--gpus", str(options.gpus)]
    if options.poll is not None:
        command += ["--poll", str(options.poll)]
    command += ["--intra-op-threads", str(options.intra_op_threads)]
    command += ["--inter-op-threads", str(options.inter_op_threads)]
    environment = dict(os.environ)
    known = servers[0].login
    if known:
        environment["TASKENSEMBLE_DB_USER"], environment["TASKENSEMBLE_DB_PASSWORD"] = known
    log = _supervisor_log(options).open("ab")
    try:
        with pinned(options.cpus):
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(told,),
                start_new_session=True,
            )
    finally:
        os.close(told)
        log.close()
    return process, report


def _supervisor_log(options: DatabaseOptions) -> Path:
    part = f"_{options.part[0]}" if options.part else ""
    return options.folder / f"{options.name}{part}_inference.log"


def _wait_supervised(options: DatabaseOptions, supervisor: subprocess.Popen[bytes], report: int) -> None:
    try:
        ready, _, _ = select.select([report], [], [], _SUPERVISED_WITHIN)
        if ready and os.read(report, 64).startswith(b"ready"):
            return
    finally:
        os.close(report)
    log = _supervisor_log(options)
    last = log.read_text(errors="replace").splitlines()[-3:]
    ended = supervisor.poll()
    what = f"ended with {ended}" if ended is not None else f"was not ready within {_SUPERVISED_WITHIN:g} s"
    raise DatabaseError(f"The supervisor of database {options.name} {what}: {'; '.join(last)}. Its log is {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_alive(record: DatabaseAddressRecord, timeout: float = 2.0) -> bool:
    """Whether every server of a database answers."""
    try:
        for address in record.addresses:
            with connected(address, login(record), timeout=timeout) as client:
                client.ask("PING")
    except Refused:
        return False
    return True


def configure_database(record: DatabaseAddressRecord, key: str, value: str) -> None:
    """Set a configuration on every running server.

    Raises:
        DatabaseError: a server refuses it or is gone.
    """
    for address in record.addresses:
        try:
            with connected(address, login(record)) as client:
                client.ask("CONFIG", "SET", key, value)
        except Refused as error:
            raise DatabaseError(f"{key}={value!r} was refused by the database at {address}: {error}") from error


def stop_database(record: DatabaseAddressRecord, timeout: float = 30.0) -> None:
    """End a database of this node: servers (which save first if they are configured to), supervisor and workers.

    A database that somebody else runs, and one that has ended already, is left alone.

    Raises:
        DatabaseError: it runs on another host, or something of it lives on after so many seconds.
    """
    if record.external:
        return
    here = record.host in ("", socket.gethostname())
    for address in record.addresses:
        with suppress(*Refused), connected(address, login(record), timeout=timeout) as client:
            client.ask("SHUTDOWN")
    if not here:
        _wait_silent(record, timeout)
        return
    deadline = time.monotonic() + timeout
    # The servers have ended, or refused to: what would wait for them to come back, or start them again, is not to.
    processes = _processes(record)
    for process in wait_gone(processes[len(record.addresses) :], 0.0):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
    left = wait_gone(processes, timeout / 2)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)
        _reap()
        left = wait_gone(left, max(1.0, (deadline - time.monotonic()) / 2))
    _reap()
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise DatabaseError(f"database {record.identifier or record.addresses[0]}: processes {pids} do not end")


def _processes(record: DatabaseAddressRecord) -> list[Process]:
    return [Process(*pair) for pair in itertools.zip_longest(record.processes, record.begun, fillvalue=0)]


def lives_here(record: DatabaseAddressRecord) -> bool:
    """Whether a process of a database lives on this host. Where none does, somebody else may answer at its old address."""
    return record.host in ("", socket.gethostname()) and bool(wait_gone(_processes(record), 0.0))


def listens_here_alone(record: DatabaseAddressRecord) -> bool:
    """Whether nobody on another host can reach a database."""
    return all(address.startswith(("127.", "localhost:", "[::1]", "unix://")) for address in record.addresses)


def _wait_silent(record: DatabaseAddressRecord, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while any(is_alive(record.model_copy(update={"addresses": (address,)})) for address in record.addresses):
        if time.monotonic() > deadline:
            raise DatabaseError(
                f"database {record.identifier} on {record.host} still answers {timeout:g} s after SHUTDOWN"
            )
        time.sleep(0.05)


def _reap() -> None:
    """Wait for those of this process's children that have ended."""
    _children[:] = [process for process in _children if process.poll() is None]


def write_record(path: Path, record: DatabaseAddressRecord) -> None:
    """Keep a record in a file that its owner alone may read, so that another process finds the database."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(record.model_dump_json(indent=1))
    partial.replace(path)


def read_record(path: Path) -> DatabaseAddressRecord:
    """The record that `write_record` kept.

    Raises:
        FileNotFoundError: there is no such file.
        DatabaseFilesError: it holds no record.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"checkpoint={str(path)!r} is no file: give a running database's checkpoint_file"
        ) from None
    try:
        return DatabaseAddressRecord.model_validate_json(text)
    except ValueError as error:
        raise DatabaseFilesError(f"{path} holds no database's record: {error}") from error
