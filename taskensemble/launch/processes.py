"""Processes that outlive the command which started them: remembered by pid and start time, so that a reused pid is never hit."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from taskensemble.engine.host import start_time
from taskensemble.errors import ControlPlaneError
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
        """Those that still run.

        Raises:
            ControlPlaneError: the file cannot be read, so nobody knows.
        """
        try:
            entries = [KeptProcess(**entry) for entry in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise ControlPlaneError(
                f"{self._path}, which lists the workers that were started here, cannot be read ({error}): end them by hand "
                "(`ps -ef | grep workers.app`), then remove it"
            ) from error
        return [process for process in entries if process.alive]

    def add(self, name: str, pid: int) -> None:
        """Remember a process that runs now."""
        born = start_time(pid)
        if born:
            self._write([*self.living(), KeptProcess(name, pid, born)])

    def clear(self) -> None:
        """Forget all of them."""
        self._path.unlink(missing_ok=True)

    def _write(self, entries: list[KeptProcess]) -> None:
        write_private(self._path, json.dumps([asdict(entry) for entry in entries]))
