"""What databases cost to bring up: `python -m benchmarks.database`. First PING, torch worker, a large model onto shards."""

from __future__ import annotations

import hashlib
import io
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.rows import Row, text
from taskensemble.database import DatabaseOptions, free_port, load_assets, start_database, stop_database
from taskensemble.database.assets import server_tags
from taskensemble.database.connection import connected, login
from taskensemble.engine.records import AssetRecord, DatabaseAddressRecord

ROUNDS = 3
SHARDS = 3
BYTES = 100_000_000


def first_ping(port: int, found: list[float]) -> None:
    """Notes the time of the first PONG on a port."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as wire:
                wire.sendall(b"PING\r\n")
                if wire.recv(64).startswith(b"+PONG"):
                    found.append(time.perf_counter())
                    return
        except OSError:
            time.sleep(0.001)


def starts(model: bytes) -> tuple[float, float, float]:
    """Seconds from the call to the first PING, to its return, and to a stored model, for which a torch worker was started."""
    with tempfile.TemporaryDirectory(prefix="te-db-") as folder:
        port = free_port()
        found: list[float] = []
        pinger = threading.Thread(target=first_ping, args=(port, found))
        pinger.start()
        begun = time.perf_counter()
        record = start_database(DatabaseOptions(name="bench", folder=Path(folder), port=port))
        returned = time.perf_counter()
        try:
            load_assets(record, [asset("tiny", model)], lambda _: model)
            stored = time.perf_counter()
            pinger.join()
        finally:
            stop_database(record)
    return found[0] - begun, returned - begun, stored - begun


def asset(name: str, blob: bytes) -> AssetRecord:
    """A TorchScript model as a run's record names it."""
    return AssetRecord(name=name, kind="model", digest=hashlib.sha256(blob).hexdigest(), size=len(blob))


def torch_model(size: int) -> bytes:
    """A TorchScript archive of one layer that takes about `size` bytes."""
    import torch

    width = max(1, round((size / 4) ** 0.5))
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(width, width)), stream)
    return stream.getvalue()


def on_every_shard(record: DatabaseAddressRecord, tagged: list[tuple[str, bytes]], *words: bytes) -> None:
    """A command with a key, on every shard, one shard after the other."""
    for address, tag in tagged:
        with connected(address, login(record)) as client:
            client.ask(words[0], b"{" + tag + b"}." + words[1], *words[2:])


def loading() -> tuple[list[float], list[float], float]:
    """Seconds of loading a model onto the shards of a cluster, of SET of its bytes, a pair a round, and of the first load.

    Each round has a model of its own, which no worker has loaded before, and both leave no memory behind for the next round.
    """
    folder = Path(tempfile.mkdtemp(prefix="te-db-"))
    record = start_database(DatabaseOptions(name="bench", folder=folder, shards=SHARDS))
    try:
        blob = torch_model(BYTES)
        first = _timed(partial(load_assets, record, [asset("model", blob)], lambda _: blob))
        tagged = server_tags(record)
        loads, sets = [], []
        for _ in range(ROUNDS):
            on_every_shard(record, tagged, b"DEL", b"model")
            blob = torch_model(BYTES)
            models = [asset("model", blob)]
            loads.append(_timed(partial(load_assets, record, models, lambda _, blob=blob: blob)))
            sets.append(_timed(partial(on_every_shard, record, tagged, b"SET", b"raw", blob)))
            on_every_shard(record, tagged, b"DEL", b"raw")
    finally:
        stop_database(record)
        shutil.rmtree(folder, ignore_errors=True)
    return loads, sets, first


def _timed(call: Callable[[], None]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def rows() -> list[Row]:
    """The figures of databases."""
    tiny = torch_model(400)
    pings, returns, stored = zip(*(starts(tiny) for _ in range(ROUNDS)), strict=True)
    loads, sets, first = loading()
    ratios = [load / plain for load, plain in zip(loads, sets, strict=True)]
    rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return [
        Row("`start` of a standard database, to first PING", statistics.median(pings), "s", 0.3),
        Row("  to its return, supervisor ready", statistics.median(returns), "s"),
        Row("  with a torch worker ready, a model stored", statistics.median(stored), "s", 4),
        Row(
            f"loading a model of {BYTES // 10**6} MB onto {SHARDS} shards, beside raw SET of its bytes",
            statistics.median(ratios),
            "x",
            1.5,
            beside=f"{statistics.median(loads):.2f} s and {statistics.median(sets):.2f} s; rounds {rounds}",
        ),
        Row("  the first one, which starts the torch workers", first, "s"),
    ]


if __name__ == "__main__":
    sys.stdout.write(text(rows()) + "\n")
