"""The supervisor: starts inference workers on the module's orders and ends with its servers.

It offers a pair (backend, device) when the backend's wheel is installed and the device is there, imports no backend itself, and
starts a worker only when the module asks for it. Workers die with it: the kernel sees to that.
"""

from __future__ import annotations

import glob
import logging
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .backend import KINDS, can_use_gpus, installed_version, missing_text
from .connection import Connection, Credentials, ServerError

PROTOCOL = 1
USER_VARIABLE = "TASKENSEMBLE_DB_USER"
PASSWORD_VARIABLE = "TASKENSEMBLE_DB_PASSWORD"
_SERVER_WITHIN = 120.0
_PASSING = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY")
"""Errors of a server that will answer later."""
_ROLE_CHANGED = "UNBLOCKED"
"""What a server tells every waiting client when it becomes a replica, before it closes their connections."""
_PASSING_PAUSE = 0.05
_RESTART_DELAYS = (0.0, 0.0, 0.5, 2.0, 10.0)
_RESTART_LOOK = 0.2
"""Seconds between two looks for a server that is started again."""
_LONG_LIFE = 30.0
_GRACE = 2.0

log = logging.getLogger("taskensemble.inference.supervisor")

Pair = tuple[str, str]


class Worker(NamedTuple):
    """A worker process: what it serves, and the pipe on which it says that it has joined."""

    pair: Pair
    process: subprocess.Popen[bytes]
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
    """The supervisor of a database: of one server, or of the shards of a cluster, which then share their workers.

    Arguments:
        addresses: the servers, `host:port` or `unix://path`.
        credentials: user and password, or None.
        name: unique among the servers' supervisors.
        offers: (backend, device, most workers).
        worker_arguments: passed on to each worker's command line.
        ready: called once every server knows the offers.
        patience: seconds to wait for a server that has ended and may be started again; it is given the offers again then.
        owner: pid of the process without which no server is started again; 0: none.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        credentials: Credentials | None,
        name: str,
        offers: Sequence[tuple[str, str, int]],
        worker_arguments: Sequence[str] = (),
        ready: Callable[[], None] = lambda: None,
        patience: float = 0.0,
        owner: int = 0,
    ) -> None:
        self._credentials = credentials
        self._name = name
        self._offers = offers
        self._most = {(backend, device): count for backend, device, count in offers}
        self._worker_arguments = tuple(worker_arguments)
        self._addresses = tuple(addresses)
        self._connections: dict[str, Connection] = {}
        self._ready = ready
        self._patience = patience
        self._owner = os.pidfd_open(owner) if owner else -1
        self._away: dict[str, float] = {}
        """Servers whose connection is closed, and until when they are waited for (monotonic)."""
        self._workers: dict[int, Worker] = {}
        self._due: list[tuple[float, Pair]] = []
        self._wanted: set[Pair] = set()
        """Pairs for which a START came while enough workers seemed to run."""
        self._early_ends: dict[Pair, int] = {}

    def run(self) -> None:
        """Serve the module's orders until every server is gone; then end every worker."""
        try:
            for address in self._addresses:
                self._connections[address] = _patient_connection(address, self._credentials)
                self._supervise(address)
                # The reply to a later command shows that the server has read the offers.
                probe = Connection(address, self._credentials)
                probe.command("PING")
                probe.close()
            self._ready()
            while self._connections or self._away:
                self._wait()
        except OSError as error:
            log.error("%s", error)
        finally:
            self._end_all()

    def _supervise(self, address: str) -> None:
        words: list[str | int] = ["AI._WORKER", "SUPERVISE", PROTOCOL, self._name]
        for backend, device, count in self._offers:
            words += ["OFFER", backend, device, count]
        self._connections[address].send(*words)

    def _wait(self) -> None:
        """Wait for an order, a worker's end, or a start that is due."""
        self._look_for_restarted()
        if not self._connections and not self._away:
            # Nobody is left who could wake the poll below.
            return
        now = time.monotonic()
        for due, pair in [entry for entry in self._due if entry[0] <= now]:
            self._due.remove((due, pair))
            self._start(pair)
        poller = select.poll()
        by_descriptor = {connection.fileno(): address for address, connection in self._connections.items()}
        for descriptor in (*by_descriptor, *self._workers):
            poller.register(descriptor, select.POLLIN)
        soonest = min((due for due, _ in self._due), default=None)
        if self._away:
            soonest = min(now + _RESTART_LOOK, now + _RESTART_LOOK if soonest is None else soonest)
        ready = poller.poll(None if soonest is None else max(0.0, soonest - now) * 1000 + 1)
        for descriptor, _ in ready:
            if descriptor in self._workers:
                self._ended(descriptor)
            else:
                self._take_order(by_descriptor[descriptor])

    def _look_for_restarted(self) -> None:
        """Joins servers again that are there again, or still; forgets those that are not, or whose owner has ended."""
        if self._away and self._owner >= 0 and select.select([self._owner], [], [], 0)[0]:
            self._away.clear()
        for address, until in list(self._away.items()):
            try:
                connection = Connection(address, self._credentials)
                connection.command("AI._WORKER", "LIST")
            except (OSError, ServerError) as error:
                if str(error).startswith(_PASSING):
                    self._away[address] = max(until, time.monotonic() + 1)
                elif time.monotonic() > until:
                    log.log(logging.ERROR if self._patience else logging.INFO, "%s has not come back", address)
                    del self._away[address]
                continue
            del self._away[address]
            log.info("%s is back", address)
            self._connections[address] = connection
            self._supervise(address)

    def _take_order(self, address: str) -> None:
        try:
            order = [bytes(word).decode() for word in self._connections[address].reply()]
            self._supervise(address)
        except OSError as error:
            log.info("%s", error)
            self._lose(address)
        except ServerError as error:
            log.error("%s: %s", address, error)
            if str(error).startswith(_PASSING):
                time.sleep(_PASSING_PAUSE)
                self._supervise(address)
            elif str(error).startswith(_ROLE_CHANGED):
                self._lose(address)
            else:
                self._connections.pop(address).close()
        else:
            log.info("%s: %s", address, " ".join(order))
            self._obey(order)

    def _lose(self, address: str) -> None:
        """The connection is closed. The server may be there all the same: once at least it is looked for."""
        self._connections.pop(address).close()
        self._away[address] = time.monotonic() + self._patience

    def _obey(self, order: list[str]) -> None:
        verb, backend, device = order[:3]
        pair = (backend, device)
        if verb in ("REPLACE", "STOP"):
            self._kill(int(order[4]))
        running = sum(worker.pair == pair for worker in self._workers.values()) + sum(
            due[1] == pair for due in self._due
        )
        if verb == "REPLACE" or (verb == "START" and running < self._most.get(pair, 1)):
            self._start_soon(pair)
        elif verb == "START":
            # Either a worker that was started for another shard is about to join this one too, or the server has seen a
            # worker's end before this process has.
            self._wanted.add(pair)

    def _start_soon(self, pair: Pair) -> None:
        early = self._early_ends.get(pair, 0)
        self._due.append((time.monotonic() + _RESTART_DELAYS[min(early, len(_RESTART_DELAYS) - 1)], pair))

    def _start(self, pair: Pair) -> None:
        backend, device = pair
        report, child_report = os.pipe()
        command = [sys.executable, "-P", "-m", __package__, "worker", "--backend", backend, "--device", device]
        for address in self._connections:
            command += ["--db", address]
        command += ["--supervisor", self._name, "--parent", str(os.getpid()), "--report", str(child_report)]
        environment = dict(os.environ)
        if self._credentials:
            environment[USER_VARIABLE], environment[PASSWORD_VARIABLE] = self._credentials
        try:
            process = subprocess.Popen(
                [*command, *self._worker_arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(child_report,),
            )
        except OSError as error:
            os.close(report)
            self._report_failure(pair, f"cannot start a worker: {error}")
            return
        finally:
            os.close(child_report)
        pidfd = os.pidfd_open(process.pid)
        self._workers[pidfd] = Worker(pair, process, report, time.monotonic())
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
        if worker.pair in self._wanted:
            self._wanted.discard(worker.pair)
            self._start_soon(worker.pair)

    def _report_failure(self, pair: Pair, text: str) -> None:
        log.error("%s on %s: %s", *pair, text)
        for address in self._connections:
            try:
                connection = Connection(address, self._credentials)
                connection.command("AI._WORKER", "FAILED", self._name, *pair, text)
                connection.close()
            except (OSError, ServerError) as error:
                log.error("%s did not take it: %s", address, error)

    def _kill(self, pid: int) -> None:
        for pidfd, worker in list(self._workers.items()):
            if worker.process.pid == pid:
                self._wanted.discard(worker.pair)
                worker.process.kill()
                self._ended(pidfd)
                return
        log.warning("pid %d is no worker of this supervisor", pid)

    def _end_all(self) -> None:
        for connection in self._connections.values():
            connection.close()
        deadline = time.monotonic() + _GRACE
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


def _patient_connection(address: str, credentials: Credentials | None) -> Connection:
    """A connection to a server that may still be starting, or loading what it holds."""
    deadline = time.monotonic() + _SERVER_WITHIN
    while True:
        try:
            connection = Connection(address, credentials)
            # What refuses this would refuse the offers; so would, when it is Redis 6.2, a cluster that is not formed yet.
            connection.command("AI._WORKER", "LIST")
            if b"cluster_enabled:1" in connection.command("INFO", "cluster"):
                state = connection.command("CLUSTER", "INFO")
                if b"cluster_state:ok" not in state:
                    raise ServerError("CLUSTERDOWN the cluster is not formed yet")
        except (OSError, ServerError) as error:
            passing = isinstance(error, OSError) or str(error).startswith(_PASSING)
            if not passing or time.monotonic() > deadline:
                raise OSError(f"{address}: {error}") from error
            time.sleep(0.01)
        else:
            return connection


def default_name() -> str:
    """A supervisor's name: unique on the machines that share a server."""
    return f"{socket.gethostname()}-{os.getpid()}"
