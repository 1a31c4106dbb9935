"""Drivers in processes of their own, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MARK = "TASKENSEMBLE_TEST_DRIVER"


def eventually(condition: Callable[[], object], timeout: float = 60.0, what: str = "it") -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout:g} s"
        time.sleep(0.05)


class Driver:
    """A driver script in a process; everything it starts carries a mark in its environment, by which it is found again."""

    def __init__(self, folder: Path, code: str, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        script = folder / f"driver_{self.mark[:8]}.py"
        script.write_text(textwrap.dedent(code))
        self._output = (folder / f"driver_{self.mark[:8]}.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=folder,
            env={**os.environ, MARK: self.mark, **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        self._output.flush()
        return Path(self._output.name).read_text()

    def says(self, text: str, timeout: float = 60.0) -> None:
        """Wait until it has printed a text."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            assert self.process.poll() is None, f"the driver ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"{text!r} was not printed:\n{self.output}"
            time.sleep(0.05)

    def wait(self, timeout: float = 120.0) -> int:
        """Its exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the driver does not end:\n{self.output}") from None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def left(self) -> list[str]:
        """Processes that it started and that live on, itself aside."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
            except OSError:
                continue
        return found

    def kill_all(self) -> None:
        """Kill it and all that it started at one time, as a machine that goes down does: nobody can clean up or report."""
        pids = [self.process.pid, *(int(entry.split()[0]) for entry in self.left())]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.wait()
        eventually(lambda: not self.left(), timeout=30, what="the end of every process")

    def close(self) -> None:
        """End it and what it left."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()
        for entry in self.left():
            try:
                os.kill(int(entry.split()[0]), signal.SIGKILL)
            except ProcessLookupError:
                continue
