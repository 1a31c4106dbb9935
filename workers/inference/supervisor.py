"""The supervisor: starts inference workers on the module's orders and ends with the server.

It offers a pair (backend, device) when the backend's wheel is installed and the device is there, imports no backend itself, and
starts a worker only when the module asks for it. Workers die with it: the kernel sees to that.
"""

from __future__ import annotations

import glob
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from .backend import KINDS, can_use_gpus, installed_version, missing_text
from .connection import Connection, ServerError

PROTOCOL = 1
PASSWORD_VARIABLE = "TASKENSEMBLE_DB_PASSWORD"
_RESTART_DELAYS = (0.0, 0.0, 0.5, 2.0, 10.0)
_LONG_LIFE = 30.0
_GRACE = 2.0

log = logging.getLogger("taskensemble.inference.supervisor")

Pair = tuple[str, str]


class Worker(NamedTuple):
    """A worker process: what it serves, how to see its end, and the pipe on which it reports that it has joined."""

    pair: Pair
    process: subprocess.Popen[bytes]
    pidfd: int
    report: int
    started: float


def installed_pairs(gpus: int, per_device: int) -> list[tuple[str, str, int]]:
    """What can be offered: (backend, device, most workers) for each installed wheel and device.

    Arguments:
        gpus: GPUs of this node.
        per_device: workers that may share a device.
    """
    pairs = []
    for name in KINDS:
        if installed_version(name) is None:
            log.info("%s", missing_text(name))
            continue
        pairs.append((name, "CPU", per_device))
        if can_use_gpus(name):
            pairs += [(name, f"GPU:{index}", per_device) for index in range(gpus)]
    return pairs


def count_gpus() -> int:
    """NVIDIA GPUs that this process may use, found without loading CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    present = len([path for path in glob.glob("/dev/nvidia[0-9]*") if path.removeprefix("/dev/nvidia").isdigit()])
    if visible is None:
        return present
    return min(present, len([part for part in visible.split(",") if part.strip() not in ("", "-1")]))


class Supervisor:
    """The supervisor of one server.

    Arguments:
        address: the server, `host:port` or `unix://path`.
        name: unique among the server's supervisors.
        offers: (backend, device, most workers).
        worker_arguments: passed on to each worker's command line.
    """

    def __init__(
        self,
        address: str,
        password: str | None,
        name: str,
        offers: Sequence[tuple[str, str, int]],
        worker_arguments: Sequence[str] = (),
    ) -> None:
        self._address = address
        self._password = password
        self._name = name
        self._offers = offers
        self._worker_arguments = tuple(worker_arguments)
        self._connection = Connection(address, password)
        self._workers: dict[int, Worker] = {}
        self._due: list[tuple[float, Pair]] = []
        self._early_ends: dict[Pair, int] = {}

    def run(self) -> None:
        """Serve the module's orders until the server is gone; then end every worker."""
        try:
            self._supervise()
            while True:
                self._wait()
        except (ConnectionError, OSError) as error:
            log.info("%s: %s", self._address, error)
        finally:
            self._end_all()

    def _supervise(self) -> None:
        words: list[str | int] = ["AI._WORKER", "SUPERVISE", PROTOCOL, self._name]
        for backend, device, count in self._offers:
            words += ["OFFER", backend, device, count]
        self._connection.send(*words)

    def _wait(self) -> None:
        """Wait for an order, a worker's end, or a start that is due."""
        now = time.monotonic()
        for due, pair in [entry for entry in self._due if entry[0] <= now]:
            self._due.remove((due, pair))
            self._start(pair)
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        for pidfd in self._workers:
            poller.register(pidfd, select.POLLIN)
        soonest = min((due for due, _ in self._due), default=None)
        ready = poller.poll(None if soonest is None else max(0.0, soonest - now) * 1000 + 1)
        for descriptor, _ in ready:
            if descriptor in self._workers:
                self._ended(descriptor)
        if any(descriptor == self._connection.fileno() for descriptor, _ in ready):
            order = [bytes(word).decode() for word in self._connection.reply()]
            self._obey(order)
            self._supervise()

    def _obey(self, order: list[str]) -> None:
        log.info("order: %s", " ".join(order))
        verb, backend, device = order[:3]
        if verb in ("REPLACE", "STOP"):
            self._kill(int(order[4]))
        if verb in ("START", "REPLACE"):
            pair = (backend, device)
            early = self._early_ends.get(pair, 0)
            self._due.append((time.monotonic() + _RESTART_DELAYS[min(early, len(_RESTART_DELAYS) - 1)], pair))

    def _start(self, pair: Pair) -> None:
        backend, device = pair
        report, child_report = os.pipe()
        command = [sys.executable, "-P", "-m", __package__, "worker", "--db", self._address, "--backend", backend]
        command += ["--device", device, "--supervisor", self._name, "--parent", str(os.getpid())]
        command += ["--report", str(child_report), *self._worker_arguments]
        environment = dict(os.environ)
        if self._password:
            environment[PASSWORD_VARIABLE] = self._password
        try:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=(child_report,))
        except OSError as error:
            os.close(report)
            self._report_failure(pair, f"cannot start a worker: {error}")
            return
        finally:
            os.close(child_report)
        pidfd = os.pidfd_open(process.pid)
        self._workers[pidfd] = Worker(pair, process, pidfd, report, time.monotonic())
        log.info("started a worker for %s on %s: pid %d", backend, device, process.pid)

    def _ended(self, pidfd: int) -> None:
        worker = self._workers.pop(pidfd)
        code = worker.process.wait()
        os.close(pidfd)
        with os.fdopen(worker.report, "rb") as report:
            told = report.read().decode("utf-8", "replace").strip()
        early = time.monotonic() - worker.started < _LONG_LIFE
        self._early_ends[worker.pair] = self._early_ends.get(worker.pair, 0) + 1 if early else 0
        log.info("worker %d for %s on %s ended with %d", worker.process.pid, *worker.pair, code)
        if not told.startswith("joined"):
            self._report_failure(worker.pair, told or f"worker exited with {code} before it joined")

    def _report_failure(self, pair: Pair, text: str) -> None:
        log.error("%s on %s: %s", *pair, text)
        try:
            connection = Connection(self._address, self._password)
            connection.command("AI._WORKER", "FAILED", self._name, *pair, text)
            connection.close()
        except (OSError, ServerError) as error:
            log.error("the server did not take it: %s", error)

    def _kill(self, pid: int) -> None:
        for worker in self._workers.values():
            if worker.process.pid == pid:
                worker.process.kill()
                return
        log.warning("pid %d is no worker of this supervisor", pid)

    def _end_all(self) -> None:
        self._connection.close()
        deadline = time.monotonic() + _GRACE
        for worker in self._workers.values():
            worker.process.send_signal(signal.SIGTERM)
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def default_name() -> str:
    """A supervisor's name: unique on the machines that share a server."""
    return f"{socket.gethostname()}-{os.getpid()}"
