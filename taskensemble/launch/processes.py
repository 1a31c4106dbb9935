"""Processes that outlive the command which started them: remembered by pid and start time, so that a reused pid is never hit."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from taskensemble.launch.files import write_private


@dataclass(frozen=True)
class KeptProcess:
    """One remembered process."""

    name: str
    pid: int
    born: int
    """Clock ticks after boot, from /proc/<pid>/stat."""

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.born

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class KeptProcesses:
    """The list of them, in a file that only its user reads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def living(self) -> list[KeptProcess]:
        """Those that still run."""
        try:
            entries = [KeptProcess(**entry) for entry in json.loads(self._path.read_text())]
        except (OSError, ValueError, TypeError):
            return []
        return [process for process in entries if process.alive]

    def add(self, name: str, pid: int) -> None:
        """Remember a process that runs now."""
        born = start_time(pid)
        if born is not None:
            self._write([*self.living(), KeptProcess(name, pid, born)])

    def clear(self) -> None:
        """Forget all of them."""
        self._path.unlink(missing_ok=True)

    def _write(self, entries: list[KeptProcess]) -> None:
        write_private(self._path, json.dumps([asdict(entry) for entry in entries]))


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks after boot; None when it has ended, a zombie included."""
    try:
        # The command's name, in parentheses, may hold spaces: the fields after its end are safe to split.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
