"""The guard: a small C program beside each worker and server that ends process trees when their owner dies, hangs or says so.

`tie` runs one program that ends with this process. `Guard` is a worker's side of `te-guard serve`: frames over a socket pair, as
guard.c describes them.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import IO, Any

from taskensemble.errors import LauncherError

PROGRAM = Path(__file__).with_name("te-guard")


class Why(IntEnum):
    """Why a member ended; the numbers of guard.c."""

    ITSELF = 0
    ASKED = 1
    WALLTIME = 2
    MEMORY = 3
    SILENCE = 4


class Stage(IntEnum):
    """Where a start failed; the numbers of guard.c."""

    FORK = 1
    FOLDER = 2
    OUTPUT = 3
    PROGRAM = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True)
class Started:
    """A member's program runs."""

    id: int
    pid: int


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A member's program could not be started."""

    id: int
    errno: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class Ended:
    """A member's program has ended, and nothing of its tree is left."""

    id: int
    pid: int
    returncode: int
    """As in subprocess: negative for a signal."""
    why: Why
    ran: float
    """Seconds."""
    user: float
    """CPU seconds."""
    system: float
    peak: int
    """Largest resident memory of one process, in bytes."""


def program() -> str:
    """Path of the compiled guard.

    Raises:
        LauncherError: the package was not built.
    """
    if not PROGRAM.exists():
        raise LauncherError(
            f"The guard {PROGRAM} is missing: build the package with `pip install .` or `pip install -e .`"
        )
    return str(PROGRAM)


def tie(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    pid: int | None = None,
    grace: float = 10.0,
    restart: bool = False,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Runs a program that ends, with all it has started, when a process ends, however that ends.

    Arguments:
        pid: the process to tie it to; None: this one; 0: none.
        grace: seconds between SIGTERM and SIGKILL.
        restart: when a signal has killed it, it is started again, unless that happens time after time.
        pass_fds: descriptors that the program inherits.

    Returns:
        The guard's process: SIGTERM to it ends the program, its status is the program's (128 + n for a signal n).
    """
    command = [program(), "tie", str(os.getpid() if pid is None else pid), "--grace", f"{grace:g}"]
    command += ["--restart", "--", *argv] if restart else ["--", *argv]
    return subprocess.Popen(
        command, env=None if env is None else dict(env), cwd=cwd, stdout=stdout, stderr=stderr, pass_fds=tuple(pass_fds)
    )


_NOTE = struct.Struct("=Qdiiq")
_HEADER = struct.Struct("=IB")
_SPAWN = struct.Struct("=QQQdddIIII")
_END = struct.Struct("=Qd")
_SIGNAL = struct.Struct("=Qi")
_FORGET = struct.Struct("=Q")
_BEAT = struct.Struct("=dd")
_STARTED = struct.Struct("=Qi")
_FAILED = struct.Struct("=Qii")
_ENDED = struct.Struct("=QiiidddQ")


def _strings(texts: Sequence[str]) -> bytes:
    return os.fsencode("\0".join(texts)) + b"\0" if texts else b""


def _entries(env: Mapping[str, str]) -> bytes:
    return _strings([f"{name}={value}" for name, value in env.items()])


def read_ends(path: Path) -> dict[int, Ended]:
    """How members of a worker have ended that its record has not, by their number, from the file of its guard; empty when
    there is none. Only what the leader's end says is known: no CPU seconds and no memory."""
    return {
        number: Ended(number, 0, os.waitstatus_to_exitcode(status), Why(why), ran, 0.0, 0.0, 0)
        for number, ran, status, why, _ in _notes(path)
        if why >= 0
    }


def read_pids(path: Path) -> dict[int, int]:
    """The processes of a worker's members that its guard had started, by their number; it may have died before it told."""
    return {number: pid for number, _, _, _, pid in _notes(path)}


def _notes(path: Path) -> list[tuple[int, float, int, int, int]]:
    try:
        content = path.read_bytes()
    except OSError:
        return []
    whole = content[: len(content) - len(content) % _NOTE.size]
    return [note for note in _NOTE.iter_unpack(whole) if note[0]]


class Guard:
    """A guard process that runs members for this process.

    What is asked for is collected and written by `flush`, in one write.

    Arguments:
        epitaph: command that the guard executes when this process has died and all members have been ended.
        ends: file in which it notes how members ended, until `forget`; it holds a lock on it, and so does the epitaph.
    """

    def __init__(self, epitaph: Sequence[str] = (), ends: Path | None = None) -> None:
        ours, theirs = socket.socketpair()
        command = [program(), "serve", str(theirs.fileno())]
        if ends is not None:
            command += ["--ends", str(ends)]
        if epitaph:
            command += ["--", *epitaph]
        self.process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()
        self._socket = ours
        self._outgoing = bytearray()
        self._incoming = bytearray()

    def fileno(self) -> int:
        """Descriptor that becomes readable when `read` has something."""
        return self._socket.fileno()

    def set_environment(self, key: int, env: Mapping[str, str]) -> None:
        """Keeps an environment in the guard, for starts to refer to."""
        self._frame(b"E", struct.pack("=I", key) + _entries(env))

    def spawn(
        self,
        identifier: int,
        argv: Sequence[str],
        *,
        folder: str,
        out: str,
        err: str,
        environment: int,
        extra: Mapping[str, str],
        cpus: Sequence[int] = (),
        walltime: float = 0.0,
        warn_before: float = 0.0,
        grace: float = 10.0,
        memory: int = 0,
        output_limit: int = 0,
    ) -> None:
        """Starts a program in a session of its own, with its output in files.

        Arguments:
            identifier: number under which the guard reports it.
            environment: key of an environment; `extra` is set over it.
            cpus: CPUs it may use; empty: all of the worker's.
            walltime: seconds; 0: none. warn_before: SIGUSR1 so many seconds before it. grace: from SIGTERM to SIGKILL.
            memory: bytes that the whole tree may hold resident; 0: no limit.
            output_limit: bytes kept of each output file; 0: all.
        """
        numbers = _SPAWN.pack(
            identifier,
            memory,
            output_limit,
            walltime,
            warn_before,
            grace,
            environment,
            len(argv),
            len(extra),
            len(cpus),
        )
        self._frame(
            b"S",
            b"".join(
                (numbers, struct.pack(f"={len(cpus)}I", *cpus), _strings((folder, out, err, *argv)), _entries(extra))
            ),
        )

    def end(self, identifier: int, grace: float = -1.0) -> None:
        """SIGTERM to a member's tree, SIGKILL after `grace` seconds (negative: its own)."""
        self._frame(b"T", _END.pack(identifier, grace))

    def signal(self, identifier: int, number: int) -> None:
        """A signal to a member's leader."""
        self._frame(b"K", _SIGNAL.pack(identifier, number))

    def forget(self, identifier: int) -> None:
        """The end of a member is in the record: the guard need not keep it."""
        self._frame(b"A", _FORGET.pack(identifier))

    def beat(self, silence: float, hurry: float) -> None:
        """This process holds its leases: if the guard hears nothing for `silence` seconds it ends all members, with `hurry`
        seconds from SIGTERM to SIGKILL, and starts none."""
        self._frame(b"B", _BEAT.pack(silence, hurry))

    def flush(self) -> None:
        """Writes what was asked for.

        Raises:
            OSError: the guard is gone.
        """
        if self._outgoing:
            waiting, self._outgoing = self._outgoing, bytearray()
            self._socket.sendall(waiting)

    def read(self) -> Iterator[Started | NotStarted | Ended]:
        """What the guard has reported since the last call.

        Raises:
            EOFError: the guard is gone.
        """
        with suppress(BlockingIOError):
            while True:
                part = self._socket.recv(65536, socket.MSG_DONTWAIT)
                if not part:
                    raise EOFError("the guard has ended")
                self._incoming += part
                if len(part) < 65536:
                    break
        at, waiting = 0, self._incoming
        while len(waiting) - at >= _HEADER.size:
            length, kind = _HEADER.unpack_from(waiting, at)
            if len(waiting) - at - 4 < length:
                break
            yield _report(kind, waiting, at + 5)
            at += 4 + length
        del waiting[:at]

    def close(self, timeout: float = 30.0) -> None:
        """Ends all members and the guard, and waits for it."""
        self._frame(b"Q", b"")
        with suppress(OSError):
            self.flush()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._socket.close()

    def abandon(self) -> None:
        """Gives up a guard that has died."""
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def _frame(self, kind: bytes, fields: bytes) -> None:
        self._outgoing += struct.pack("=I", len(fields) + 1) + kind + fields


def _report(kind: int, waiting: bytearray, at: int) -> Started | NotStarted | Ended:
    if kind == ord("s"):
        return Started(*_STARTED.unpack_from(waiting, at))
    if kind == ord("f"):
        identifier, number, stage = _FAILED.unpack_from(waiting, at)
        return NotStarted(identifier, number, Stage(stage))
    identifier, pid, status, why, ran, user, system, peak = _ENDED.unpack_from(waiting, at)
    return Ended(identifier, pid, os.waitstatus_to_exitcode(status), Why(why), ran, user, system, peak)
