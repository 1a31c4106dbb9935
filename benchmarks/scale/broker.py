"""The broker of a simulation, and what the kernel and its own INFO say of it."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from taskensemble.launch.embedded import free_port, server_binary

CLIENT_COMMANDS = ("evalsha", "blmpop", "lpush", "publish", "hvals", "ping", "llen", "client|unblock")
"""What workers send that store.lua never calls itself; beats (HSET te:workers) are counted by the workers."""


@dataclass(frozen=True)
class Counts:
    """What a broker has done so far."""

    clock: float
    cpu: float
    """Seconds, all its threads."""
    requests: int
    """Round trips of clients, without beats."""
    commands: int
    """Those, and what store.lua called inside."""
    received: int
    sent: int
    """Bytes."""
    by_command: dict[str, int]


def cpu_seconds(pid: int) -> float:
    """CPU time that the threads of a process have had, in seconds, by the scheduler's own count."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


class Broker:
    """A Valkey with the settings of an embedded control plane (append-only file, synced each second).

    Arguments:
        cpu: the one CPU that it may use; None: any.
    """

    def __init__(self, folder: Path, cpu: int | None) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        port = free_port()
        self.url = f"redis://:scale@127.0.0.1:{port}/0"
        command = [str(server_binary()), "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "scale"]
        command += ["--dir", str(folder), "--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        command += ["--maxclients", "60000", "--tcp-backlog", "4096"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        if cpu is not None:
            os.sched_setaffinity(self.process.pid, {cpu})
        self.redis = redis.Redis.from_url(self.url, protocol=2)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.redis.ping()
                return
            except redis.RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def counts(self) -> Counts:
        """What it has done by now."""
        stats = self.redis.info("stats")
        calls = {name.removeprefix("cmdstat_"): row["calls"] for name, row in self.redis.info("commandstats").items()}
        return Counts(
            clock=time.monotonic(),
            cpu=cpu_seconds(self.process.pid),
            requests=sum(calls.get(name, 0) for name in CLIENT_COMMANDS),
            commands=int(stats["total_commands_processed"]),
            received=int(stats["total_net_input_bytes"]),
            sent=int(stats["total_net_output_bytes"]),
            by_command=calls,
        )

    def memory(self) -> tuple[float, float]:
        """Memory of its data and of its clients, in MiB."""
        facts = self.redis.info("memory")
        return facts["used_memory_dataset"] / 2**20, facts["mem_clients_normal"] / 2**20

    def close(self) -> None:
        """Ends it."""
        self.redis.close()
        self.process.terminate()
        self.process.wait(60)
