"""The rows of the table: what each measures in one round, and how the rounds' medians read against their targets."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskensemble.ai import Client
from taskensemble.database import DatabaseOptions, free_port, server_binary, start_database, stop_database
from taskensemble.engine.records import DatabaseAddressRecord

from .clients import InProcess, Raw, encoded, rate, tensor_set
from .models import CONVNET, LINEAR, RESNET, Subject

OK = len(b"+OK\r\n")
CLIENTS = 8
MEGABYTE = 1_000_000


@dataclass
class Samples:
    """What the rounds measured, by name."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def ratio(self, name: str, base: str) -> float:
        """The median of the rounds' own ratios: a drifting machine moves both sides of each."""
        return statistics.median(a / b for a, b in zip(self.values[name], self.values[base], strict=True))

    def gap(self, name: str, base: str) -> float:
        return statistics.median(a - b for a, b in zip(self.values[name], self.values[base], strict=True))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    measured: str
    beside: str
    target: str
    met: bool


class Stack:
    """An AI database with the models stored, plain and batched, and a raw socket to it."""

    def __init__(
        self, folder: Path, subjects: Sequence[Subject], poll: int | None, name: str, device: str = "CPU"
    ) -> None:
        self.folder = folder
        self.record: DatabaseAddressRecord = start_database(
            DatabaseOptions(name=name, folder=folder, port=free_port(), poll=poll)
        )
        self.address = self.record.addresses[0]
        self.client = Client(False, address=self.address)
        for subject in subjects:
            for batch in (0, 8):
                self.client.set_model(f"{subject.name}{batch}", subject.blob(), "TORCH", device, batch_size=batch)
            for i in range(CLIENTS):
                self.client.put_tensor(f"{subject.name}.in{i}", subject.sample())
        self.raw = Raw(self.address)

    def execute(self, subject: Subject, batch: int = 0, client: int = 0) -> bytes:
        names = (f"{subject.name}.in{client}", f"{subject.name}.out{client}")
        model = f"{subject.name}{batch}"
        return encoded("AI.MODELEXECUTE", model, "INPUTS", 1, names[0], "OUTPUTS", 1, names[1])

    def rate(self, subject: Subject, batch: int, seconds: float) -> float:
        payloads = [self.execute(subject, batch, i) for i in range(CLIENTS)]
        return rate(self.address, payloads, OK, seconds)

    def close(self) -> None:
        self.client.close()
        stop_database(self.record)


class Bench:
    """Everything that is up while the rounds go on: the database in both modes, and each model in process."""

    def __init__(self, seconds: float, subjects: Sequence[Subject], patience: float = 0.0, device: str = "CPU") -> None:
        self.seconds = seconds
        self.patience = patience
        self.device = device
        self.subjects = subjects
        self.samples = Samples()
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Bench:
        folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="te-bench-")))
        self.polling = Stack(folder, self.subjects, 200, "polling", self.device)
        self._exits.callback(self.polling.close)
        self.sleeping = Stack(folder, [LINEAR], 0, "sleeping", self.device)
        self._exits.callback(self.sleeping.close)
        self.alone: dict[str, InProcess] = {}
        for subject in self.subjects:
            path = folder / f"{subject.name}.pt"
            path.write_bytes(subject.blob())
            self.alone[subject.name] = InProcess(str(path), subject.shape, self.device.lower().replace("gpu", "cuda"))
            self._exits.callback(self.alone[subject.name].close)
        self.folder = folder
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def round(self) -> None:
        """Measure everything once, things that are compared next to each other."""
        for measure in (self._latency, self._tensors, self._graph, self._throughput):
            await_calm(self.patience)
            measure()

    def _latency(self) -> None:
        for mode, stack in (("polling", self.polling), ("sleeping", self.sleeping)):
            self.samples.add(f"ping {mode}", stack.raw.median(encoded("PING"), 7, self.seconds))
            self.samples.add(f"linear {mode}", stack.raw.median(stack.execute(LINEAR), OK, self.seconds))
        for subject in self.subjects:
            seconds = self.seconds * (4 if subject is RESNET else 1)
            self.samples.add(f"{subject.name} alone", self.alone[subject.name].median(1, seconds))
            self.samples.add(f"{subject.name} p50", self.polling.raw.median(self.polling.execute(subject), OK, seconds))

    def _tensors(self) -> None:
        raw = self.polling.raw
        blob = os.urandom(MEGABYTE)
        size = len(b"$%d\r\n" % MEGABYTE) + MEGABYTE + 2
        for name, payload, length in (
            ("set", encoded("SET", "plain", blob), OK),
            ("tensorset", encoded("AI.TENSORSET", "tensor", "UINT8", MEGABYTE, "BLOB", blob), OK),
            ("get", encoded("GET", "plain"), size),
            ("tensorget", encoded("AI.TENSORGET", "tensor", "BLOB"), size),
        ):
            self.samples.add(name, raw.median(payload, length, self.seconds))

    def _graph(self) -> None:
        stack = self.polling
        graph = encoded(
            *("AI.DAGEXECUTE", "ROUTING", "linear0"),
            *("|>", *tensor_set("x", LINEAR.sample())),
            *("|>", "AI.MODELEXECUTE", "linear0", "INPUTS", 1, "x", "OUTPUTS", 1, "y"),
            *("|>", "AI.TENSORGET", "y", "BLOB"),
        )
        length = len(b"*3\r\n+OK\r\n+OK\r\n$40\r\n") + 40 + 2
        self.samples.add("graph", stack.raw.median(graph, length, self.seconds))
        self.samples.add("execute", stack.raw.median(stack.execute(LINEAR), OK, self.seconds))

    def _throughput(self) -> None:
        stack = self.polling
        self.samples.add("pings", rate(stack.address, [encoded("PING")] * CLIENTS, 7, self.seconds))
        for batch in (0, 8):
            self.samples.add(f"linear rate {batch}", stack.rate(LINEAR, batch, self.seconds))
        for subject in self.subjects:
            if subject is LINEAR:
                continue
            seconds = self.seconds * (8 if subject is RESNET else 2)
            self.samples.add(f"{subject.name} alone rate", 8e6 / self.alone[subject.name].median(8, seconds))
            self.samples.add(f"{subject.name} rate 8", stack.rate(subject, 8, seconds))

    def rows(self) -> Iterator[Row]:
        """The table."""
        s = self.samples
        for mode, target, text in (
            ("polling", 4.4, "≤ 4.4 × PING, aim 3.4"),
            ("sleeping", 4.4, "(printed for comparison)"),
        ):
            ratio = s.ratio(f"linear {mode}", f"ping {mode}")
            yield Row(
                f"linear 10x10, one client, p50, worker {mode}",
                f"{s.median(f'linear {mode}'):.0f} µs = {ratio:.1f} × PING",
                f"PING {s.median(f'ping {mode}'):.0f} µs, in process {s.median('linear alone'):.0f} µs",
                text,
                mode == "sleeping" or ratio <= target,
            )
        for batch, share in ((0, 13 / 25), (8, 15.5 / 25)):
            ratio = s.ratio(f"linear rate {batch}", "pings")
            yield Row(
                f"linear, {CLIENTS} processes, BATCHSIZE {batch}",
                f"{s.median(f'linear rate {batch}'):,.0f}/s = {ratio:.2f} of PING",
                f"PING {s.median('pings'):,.0f}/s",
                f"≥ {share:.2f} of PING",
                ratio >= share,
            )
        if CONVNET in self.subjects:
            gap = s.gap("convnet p50", "convnet alone")
            yield self._latency_row(CONVNET, f"in process + {gap:.0f} µs", "≤ in process + 130 µs", gap <= 130)
            yield self._rate_row(CONVNET, 2 / 3)
        if RESNET in self.subjects:
            ratio = s.ratio("resnet18 p50", "resnet18 alone")
            yield self._latency_row(RESNET, f"{ratio:.2f} × in process", "≤ 1.1 × in process", ratio <= 1.1)
            yield self._rate_row(RESNET, 0.9)
        for name, base, target in (("tensorset", "set", 1.3), ("tensorget", "get", 1.1)):
            ratio = s.ratio(name, base)
            yield Row(
                f"{name.upper()} of 1 MB, p50",
                f"{s.median(name):.0f} µs = {ratio:.2f} × {base.upper()}",
                f"{base.upper()} {s.median(base):.0f} µs",
                f"≤ {target} × {base.upper()}, aim 1.1",
                ratio <= target,
            )
        ratio = s.ratio("graph", "execute")
        yield Row(
            "SET + EXECUTE + GET as one DAGEXECUTE",
            f"{s.median('graph'):.0f} µs = {ratio:.2f} × EXECUTE",
            f"EXECUTE {s.median('execute'):.0f} µs",
            "≤ 1.25 × EXECUTE",
            ratio <= 1.25,
        )

    def _latency_row(self, subject: Subject, measured: str, target: str, met: bool) -> Row:
        value, alone = self.samples.median(f"{subject.name} p50"), self.samples.median(f"{subject.name} alone")
        return Row(
            f"{subject.name}, one client, p50",
            f"{value:,.0f} µs = {measured}",
            f"in process {alone:,.0f} µs",
            target,
            met,
        )

    def _rate_row(self, subject: Subject, share: float) -> Row:
        ratio = self.samples.ratio(f"{subject.name} rate 8", f"{subject.name} alone rate")
        value, alone = self.samples.median(f"{subject.name} rate 8"), self.samples.median(f"{subject.name} alone rate")
        return Row(
            f"{subject.name}, {CLIENTS} processes, BATCHSIZE 8",
            f"{value:,.0f}/s = {ratio:.2f} of in process",
            f"in process, batches of 8: {alone:,.0f}/s",
            f"≥ {share:.2f} of in process",
            ratio >= share,
        )


def await_calm(patience: float) -> None:
    """Wait until the machine has been nine tenths idle for a second, at most `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = _processor_ticks()
        time.sleep(1.0)
        idle, total = (after - earlier for after, earlier in zip(_processor_ticks(), before, strict=True))
        if idle >= 0.9 * total:
            return


def _processor_ticks() -> tuple[int, int]:
    """Ticks of all processors since the start of the machine: idle, and altogether."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def resident(pid: int) -> float:
    """Resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} is gone")


def memory_rows(subject: Subject, label: Callable[[str], str] = str) -> Iterator[Row]:
    """Resident memory of servers without and with a model."""
    with tempfile.TemporaryDirectory(prefix="te-bench-") as name:
        folder = Path(name)
        port = free_port()
        command = [server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", name]
        plain = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _answering(f"127.0.0.1:{port}")
            base = resident(plain.pid)
        finally:
            plain.terminate()
            plain.wait()
        empty = Stack(folder, [], None, "memory")
        try:
            server = empty.record.processes[0]
            with_module = resident(server)
            blob = subject.blob()
            empty.client.set_model("first", blob, "TORCH")
            one, worker_one = resident(server), _workers(empty)
            empty.client.set_model("second", blob, "TORCH")
            two, worker_two = resident(server), _workers(empty)
        finally:
            empty.close()
    size = len(blob) / 2**20
    yield Row(
        label("resident: server with the module, no backend used"),
        f"{with_module:.0f} MB",
        f"plain server {base:.0f} MB",
        "≤ plain server + 20 MB",
        with_module <= base + 20,
    )
    yield Row(
        label(f"resident: growth of the server by a second {subject.name} ({size:.0f} MB)"),
        f"{two - one:.0f} MB",
        f"first one {one - with_module:.0f} MB",
        "held once",
        two - one <= 1.2 * size + 2,
    )
    yield Row(
        label(f"resident: growth of the worker by a second {subject.name}"),
        f"{worker_two - worker_one:.0f} MB",
        f"worker with one {worker_one:.0f} MB",
        "held once",
        worker_two - worker_one <= 1.5 * size + 10,
    )


def _answering(address: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            Raw(address).checked(encoded("PING"), 7)
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _workers(stack: Stack) -> float:
    listed = stack.client._topology.at(stack.address, ("AI._WORKER", "LIST"))
    return sum(resident(int(dict(zip(worker[::2], worker[1::2], strict=True))[b"pid"])) for worker in listed)
