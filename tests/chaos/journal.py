"""An append-only journal that members write, and the checks that hold after every fault.

A member writes `start`, `attempt` (it holds the member's lock) and `end`, each with its attempt, its process and the machine's
monotonic time. The lock is inherited by what the member forks: an attempt that starts while anything of an earlier one lives, a
daemon included, writes `overlap` instead of `attempt`.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import kombu
import redis
from amqp import NotFound

from taskensemble.engine import messages, urls
from taskensemble.engine.host import start_time
from taskensemble.engine.records import QueueRecord, State
from taskensemble.engine.store import Store, run_key
from tests.integration.engine.plane import BEGINS, carriers, until

PROGRAM = """
import fcntl, os, signal, sys, time
path, seconds, words = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
name, number = os.environ["TASKENSEMBLE_MEMBER"], os.environ["TASKENSEMBLE_ATTEMPT"]
journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
lock = os.open(f"{path}.{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
def write(word):
    now = int(float(open("/proc/uptime").read().split()[0]) * 1000)
    os.write(journal, f"{name} {number} {os.getpid()} {word} {now}\\n".encode())
write("start")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    write("attempt")
except OSError:
    write("overlap")
if "stubborn" in words:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "daemon" in words and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
for word in words:
    if word.startswith("fill:"):
        block = b"x" * 999_999 + b"\\n"
        for _ in range(int(word[5:])):
            left = memoryview(block)
            while left:
                left = left[os.write(1, left):]
if "grow" in words:
    heap = b"x" * 300_000_000
for word in words:
    if word.startswith("run:"):
        exec(compile(open(word[4:]).read(), word[4:], "exec"))
time.sleep(seconds)
write("end")
os._exit(0)
"""
"""`PROGRAM journal seconds [stubborn] [daemon] [fill:<MB>] [grow] [run:<file>]`.

Its times are the machine's, which no stepped clock changes. Nothing lies between its last line and its end: a program that is
killed on its way out has not ended, and runs again."""


class Line(NamedTuple):
    """One line of a journal; `at` in seconds since the machine's start."""

    member: str
    attempt: int
    pid: int
    word: str
    at: float


@dataclass
class Figures:
    """What a round has shown."""

    fault: str
    members: int
    lost: int = 0
    doubled: int = 0
    recovery: float = 0.0
    """Seconds from the fault (an outage: from its end) until every interrupted member ran again, or the first line after it."""


@dataclass
class Journal:
    """The journal of one run's members.

    Arguments:
        path: of the file.
    """

    path: Path
    segments: set[int] = field(default_factory=lambda: set(_segments()))
    """System V segments that were there before."""

    def command(self, seconds: float, *words: str) -> list[str]:
        """A member's command line."""
        plain = () if any(word.startswith("run:") for word in words) else ("-S",)
        return [sys.executable, *plain, "-c", PROGRAM, str(self.path), str(seconds), *words]

    def lines(self, word: str | None = None) -> list[Line]:
        """What has been written, in its order."""
        text = self.path.read_text() if self.path.exists() else ""
        rows = (line.split() for line in text.splitlines())
        found = [Line(name, int(number), int(pid), said, int(at) / 1000) for name, number, pid, said, at in rows]
        return [line for line in found if word is None or line.word == word]

    def started(self, count: int, seconds: float = BEGINS) -> None:
        """Waits until so many attempts have begun."""
        until(lambda: len(self.lines("attempt")) >= count, f"{count} attempts", seconds)

    def check(
        self,
        store: Store,
        run_id: str,
        members: int,
        fault: str,
        *,
        since: float,
        failed: Mapping[str, str] | None = None,
        broker_url: str | None = None,
    ) -> Figures:
        """Checks a run that is over: what ended how often, what overlapped, what is left.

        Arguments:
            since: when the fault was (an outage: when it was over), as `now` says it.
            failed: words in the reasons of members that had to fail; all others completed.
            broker_url: where messages are, when not beside the records.
        """
        failed = failed or {}
        figures = Figures(fault, members)
        rows = self.lines()
        names = {record.index: record.name for record in store.members(run_id)}
        ends = [line.member for line in rows if line.word == "end"]
        for attempt in store.attempts(run_id):
            name = names[attempt.index]
            if name in failed:
                assert attempt.state is State.FAILED, f"{name} is {attempt.state}"
                assert failed[name] in attempt.reason, attempt.reason
                continue
            figures.lost += name not in ends or attempt.state is not State.COMPLETED
            figures.doubled += ends.count(name) > 1
        figures.doubled += sum(line.word == "overlap" for line in rows)
        assert (figures.lost, figures.doubled, len(names)) == (0, 0, members), f"{figures}\n{rows}"
        again = [line.at - since for line in rows if line.word == "start" and line.attempt > 1 and line.at >= since]
        after = [line.at - since for line in rows if line.at >= since]
        figures.recovery = max(again) if again else min(after, default=0.0)
        self._check_left(store, run_id, broker_url or store.url)
        return figures

    def _check_left(self, store: Store, run_id: str, broker_url: str) -> None:
        until(lambda: not carriers(f"TASKENSEMBLE_RUN_ID={run_id}"), "no process of the run is left", 20)
        for path in self.path.parent.glob(f"{self.path.name}.*.lock"):
            with path.open("r+") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pids = {line.pid for line in self.lines()}
        assert not pids & set(_segments()) - self.segments, "a shared-memory segment of a member is left"
        # A pid is given out again within minutes where 32,768 are all there are; 0: it has ended.
        begun = {pid: start_time(pid) / os.sysconf("SC_CLK_TCK") for pid in pids}
        assert not any(0 < begun[line.pid] <= line.at for line in self.lines())
        until(lambda: run_id not in store.active_runs(), "the run is off the list of active ones", 30)
        until(lambda: not _of(run_id, store.queues()), "its queues are off the list", 30)
        prefix = run_key(run_id)[: -len("run")]
        with redis.Redis.from_url(store.url, protocol=2) as client:
            lasting = [key for key in client.scan_iter(match=f"{prefix}*", count=1000) if client.ttl(key) == -1]
        assert not lasting, f"keys that never expire: {lasting}"
        # A message that was on its way when the run ended makes its queue anew; the reaper deletes it.
        until(lambda: not _queues_left(store, run_id, broker_url), "its queues are gone", 30)


def now() -> float:
    """Seconds since the machine's start, as the journal writes them."""
    return float(Path("/proc/uptime").read_text().split()[0])


def _of(run_id: str, queues: list[QueueRecord]) -> list[str]:
    return [queue.name for queue in queues if queue.run == run_id]


def _queues_left(store: Store, run_id: str, broker_url: str) -> list[str]:
    """What a broker still has of a run: on Redis any key with its name, on RabbitMQ any of its queues."""
    if urls.is_redis(broker_url):
        prefix = run_key(run_id)[: -len("run")]
        with redis.Redis.from_url(broker_url, protocol=2, decode_responses=True) as client:
            return [key for key in client.scan_iter(match=f"*{run_id}*") if prefix not in key]
    left = []
    with kombu.Connection(urls.celery_url(broker_url)) as connection:
        for queue in messages.run_queues(store.run(run_id)):
            with suppress(NotFound), connection.channel() as channel:
                channel.queue_declare(queue.name, passive=True)
                left.append(queue.name)
    return left


def _segments() -> list[int]:
    """Creators of the System V segments of this machine."""
    rows = Path("/proc/sysvipc/shm")
    return [int(row.split()[4]) for row in rows.read_text().splitlines()[1:]] if rows.exists() else []


def rounds() -> int:
    """How often each fault is struck: TASKENSEMBLE_CHAOS_ROUNDS, else once."""
    return max(1, int(os.environ.get("TASKENSEMBLE_CHAOS_ROUNDS") or 1))
