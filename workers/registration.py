"""What a worker says of itself and of its attempts to the record store: its beat, the leases, and what a store that was started
again may have forgotten."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from taskensemble.engine.records import WorkerRecord
from workers.allocation import AllocationSlots
from workers.link import Link, ReplyError
from workers.process import Attempt
from workers.slots import Node

_BEAT = 5.0
"""Most seconds between two signs of life of a worker."""
_FORGOTTEN = 5.0
"""Seconds that a server which dies with its machine may forget: it writes to its disk each second, or when that is busy later."""


@dataclass
class Finished:
    """An end that the store was told of."""

    attempt: Attempt
    words: tuple[Any, ...]
    """Arguments of `finish`."""
    answered: float = math.inf
    """When it was recorded (monotonic)."""


class Registration:
    """One worker in the record store.

    Arguments:
        worker: how it registers itself.
        node: what it may give to members.
        attempts: those that hold a slot, by number.
        on_heard: called when the store has answered: leases that it knows of are good for another while.
        on_word: called with an attempt and what the store says of its lease: ok, stop or lost.
    """

    def __init__(
        self,
        worker: WorkerRecord,
        node: Node | AllocationSlots,
        link: Link,
        attempts: Mapping[int, Attempt],
        *,
        on_heard: Callable[[], None],
        on_word: Callable[[Attempt, bytes], None],
    ) -> None:
        self.interval = min(_BEAT, worker.lease / 4)
        """Seconds between two beats."""
        self.next_beat = 0.0
        """When the next is due (monotonic)."""
        self.next_renewal = 0.0
        """When the leases' counters are moved next (monotonic)."""
        self.ended: deque[Finished] = deque()
        """Ends that a server which dies may have forgotten, in their order."""
        self._worker = worker
        self._node = node
        self._link = link
        self._attempts = attempts
        self._on_heard = on_heard
        self._on_word = on_word
        self._beats = 0

    def beat(self, now: float, rooms: dict[str, int]) -> None:
        """A sign of life, with what is free here.

        Arguments:
            rooms: how many members of each queue would find a slot now.
        """
        self.next_beat = now + self.interval
        while self.ended and self.ended[0].answered < self._link.heard - _FORGOTTEN:
            self.ended.popleft()
        self._beats += 1
        record = self._worker.model_copy(
            update={
                "free": self._node.free,
                "running": len(self._attempts),
                "rooms": rooms,
                "nodes": self._node.kinds,
                "left": self._node.stay.left,
                "beat": self._beats,
                "seen": time.time(),
            }
        )
        text = record.model_dump_json(exclude_defaults=True)
        self._link.command("HSET", "te:workers", self._worker.name, text, insists=False)

    def renew(self, now: float) -> None:
        """Moves the leases' counters; what the store says of an attempt counts."""
        self.next_renewal = now + min(self._worker.lease / 12, 10.0)
        by_run: dict[tuple[str, str], list[Attempt]] = {}
        for attempt in self._attempts.values():
            if attempt.number:
                by_run.setdefault((attempt.run_id, attempt.node), []).append(attempt)
        for (run_id, node), attempts in by_run.items():
            arguments: list[Any] = [self._worker.name, node]
            for attempt in attempts:
                arguments += _known(attempt)
            self._link.call(run_id, "renew", arguments, partial(self._on_renewed, attempts), insists=False)
        if not by_run:
            self._link.command("PING", callback=partial(self._on_renewed, ()), insists=False)

    def tell_again(self, now: float) -> None:
        """The store was started again: it is told what has ended and what runs here, before anybody claims anything."""
        self.next_beat = 0.0
        self.renew(now)
        for finished in self.ended:
            attempt = finished.attempt
            if attempt.number:
                self._link.call(attempt.run_id, "renew", (self._worker.name, attempt.node, *_known(attempt)))
                if finished.answered < math.inf:
                    self._link.call(attempt.run_id, "finish", finished.words)

    def leave(self) -> None:
        """The worker ends."""
        self._link.command("HDEL", "te:workers", self._worker.name)

    def _on_renewed(self, attempts: Sequence[Attempt], answer: Any) -> None:
        if isinstance(answer, ReplyError):
            # While a server can write nothing, nobody can claim these members. Once it can, reapers look at leases anew.
            if answer.writes_nothing:
                self._on_heard()
            return
        self._on_heard()
        for attempt, word in zip(attempts, answer if attempts else (), strict=True):
            if attempt.id in self._attempts:
                self._on_word(attempt, word)


def _known(attempt: Attempt) -> tuple[Any, ...]:
    """An attempt in the words of store.lua's `renew`."""
    return attempt.index, attempt.entity, attempt.token, attempt.number, -1 if attempt.armed else attempt.pid
