"""Messages of members that wait on this worker for a slot, and the queues to read next. Bookkeeping: it asks nobody."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from taskensemble.engine.records import QueueRecord, ResourcesRecord
from workers.allocation import AllocationSlots
from workers.slots import Node, Slot

logger = logging.getLogger("taskensemble.worker")

_SHORT = 1.0
"""Members that last less are fetched ahead of free slots."""
_AHEAD = 64
_HUNGRY_AFTER = 10.0
"""Seconds that members wait for room beside smaller ones before a worker keeps room for them."""


class Waiting:
    """What one worker has fetched and not claimed, and what it fetches next.

    Arguments:
        node: what the worker may give to members.
        batch_queue: the batch queue that it serves alone; empty: those of no batch queue.
    """

    def __init__(self, node: Node | AllocationSlots, batch_queue: str) -> None:
        self.queues: dict[str, QueueRecord] = {}
        """Those of active runs whose members could run here."""
        self.requests: dict[str, deque[Any]] = {}
        """Celery's requests, by queue."""
        self.durations: dict[str, float] = {}
        """Seconds that the members of a queue last, as a moving average."""
        self.later: dict[str, float] = {}
        """Queues that are left alone, and until when (monotonic): others take slots first, or a claim has failed."""
        self.refused: set[str] = set()
        """Queues of runs with another record schema."""
        self._late: set[str] = set()
        """Queues whose members ask for more time than is left here; what was under way of them when they were left goes back."""
        self._node = node
        self._batch_queue = batch_queue
        self._unreadable: set[bytes] = set()
        self._turn = 0
        self._taken = 0
        self._served: dict[str, int] = {}
        self._waits_since: dict[str, float] = {}
        self._hungry = ""
        """A queue whose members have long found no room because smaller ones took it: nothing else is fetched until they do."""

    def add(self, request: Any, queue: str) -> None:
        """A member's message has arrived."""
        self.requests.setdefault(queue, deque()).append(request)

    def take(self) -> Iterator[tuple[Any, str, Slot]]:
        """What waits, with its queue and a slot, for as long as there are slots: of each run in turn."""
        for queue, requests in sorted(self.requests.items(), key=lambda item: self._served.get(item[0], 0)):
            if queue in self._late:
                continue
            record = self.queues.get(queue)
            resources = record.resources if record is not None else ResourcesRecord()
            while requests:
                slot = self._node.allocate(resources)
                if slot is None:
                    break
                self._taken += 1
                self._served[queue] = self._taken
                self._waits_since.pop(queue, None)
                if queue == self._hungry:
                    self._hungry = ""
                yield requests.popleft(), queue, slot

    def tidy(self, on_surplus: Callable[[str, list[Any]], None] | None) -> None:
        """Forgets queues of which nothing waits.

        Arguments:
            on_surplus: takes messages back that found no slot; None: they wait here.
        """
        for queue, requests in list(self.requests.items()):
            if requests and on_surplus is not None and self.durations.get(queue, _SHORT) >= _SHORT:
                surplus = list(requests)
                requests.clear()  # before the call: while the broker answers, more may arrive
                on_surplus(queue, surplus)
            if not requests:
                del self.requests[queue]

    def plan(self, queues: list[str], *, draining: bool) -> tuple[list[str], int]:
        """Which of these queues to read now, and how many messages to take at most."""
        service = [queue for queue in queues if queue not in self.queues]
        room = self._room()
        wanted = [queue for queue in queues if room.get(queue, 0) > 0]
        passed = self._passed_over(room)
        if draining or not (wanted or passed):
            return service, 1
        if self._hungry in wanted:
            return [*service, self._hungry], 1
        self._turn += 1
        if passed and (self._turn % 2 or not wanted):
            # Not each time: one command has one limit, and short members should come many at once.
            return [*service, *passed, *wanted], 1
        at = self._turn % len(wanted)
        return [*service, *wanted[at:], *wanted[:at]], max(1, min(room[queue] for queue in wanted))

    def wanted(self) -> list[str]:
        """Queues whose members would find room now."""
        room = self._room()
        return [*(queue for queue, free in room.items() if free > 0), *self._passed_over(room)]

    def rooms(self) -> dict[str, int]:
        """How many members of each queue would find a slot now; queues without room are left out."""
        rooms = {name: self._node.fits(queue.resources) for name, queue in self.queues.items()}
        return {name: room for name, room in rooms.items() if room}

    def follow(self, answer: Sequence[bytes]) -> bool:
        """Takes in the store's list of queues, names and records in turn; True when those to be read here have changed."""
        records = []
        for name, text in zip(answer[::2], answer[1::2], strict=True):
            try:
                records.append(QueueRecord.model_validate_json(text))
            except ValueError as error:  # another version's, or anybody's
                if name not in self._unreadable:
                    self._unreadable.add(name)
                    logger.error("The record of queue %s cannot be read: %s", name.decode("utf-8", "replace"), error)
        fitting = {
            record.name: record
            for record in records
            if record.batch_queue == self._batch_queue
            and record.name not in self.refused
            and self._node.could_ever(record.resources)
        }
        if fitting == self.queues:
            return False
        self.queues = fitting
        self._late &= {record.name for record in records}
        self.durations = {name: lasts for name, lasts in self.durations.items() if name in fitting}
        self._served = {name: last for name, last in self._served.items() if name in fitting}
        return True

    def leave_late(self) -> list[Any]:
        """Leaves the queues whose members ask for more time than this worker has left; what it has fetched of them."""
        late = {name for name, queue in self.queues.items() if not self._node.stay.allows(queue.resources)}
        for name in late:
            del self.queues[name]
        self._late |= late
        return [request for name in self._late for request in self.requests.pop(name, ())]

    def without_room(self) -> list[str]:
        """Queues whose members find no slot now; how many wait in them tells whether they are kept waiting."""
        found = [name for name, queue in self.queues.items() if not self._node.fits(queue.resources)]
        self._waits_since = {name: since for name, since in self._waits_since.items() if name in found}
        if self._hungry not in self._waits_since:
            self._hungry = ""
        return found

    def on_length(self, name: str, length: object, now: float, *, others_run: bool) -> None:
        """So many members wait in a queue without room; room is kept for them when others have taken it for too long.

        Arguments:
            length: as the broker has answered: an error counts as nothing.
            now: monotonic time.
            others_run: members of other queues run here.
        """
        if not isinstance(length, int) or not length or name not in self.queues:
            self._waits_since.pop(name, None)
            return
        since = self._waits_since.setdefault(name, now)
        if not self._hungry and others_run and now - since > _HUNGRY_AFTER:
            self._hungry = name

    def _room(self) -> dict[str, int]:
        room = {}
        for name, queue in self.queues.items():
            if self._hungry and name != self._hungry:
                continue
            if self.later and self.later.get(name, 0.0) > time.monotonic():
                continue
            if not self._node.stay.allows(queue.resources):
                continue
            free = self._node.fits(queue.resources)
            ahead = 0
            # Members that run together are left for whoever has a slot now.
            lasts = None if queue.together else self.durations.get(name)
            if lasts is not None and lasts < _SHORT:
                slots = max(1, len(self._node.cpus) // max(1, queue.resources.cpus))
                ahead = min(_AHEAD, int(slots * 0.25 / max(lasts, 0.001)))
            waiting = sum(len(requests) for requests in self.requests.values())
            # Refill in strides: below half of what may wait here, not message by message.
            room[name] = free + ahead - waiting if waiting <= free + ahead // 2 else 0
        return room

    def _passed_over(self, room: dict[str, int]) -> list[str]:
        """Queues without room because another run's short members, fetched ahead, take every slot that becomes free.

        One message of each is fetched beside them: a slot for it is a second away at most, for it takes what one of them takes.
        """
        ahead = [name for name in self.requests if self.durations.get(name, _SHORT) < _SHORT]
        short = [self.queues[name].resources for name in ahead if name in self.queues]
        return [
            name
            for name, free in room.items()
            if not free
            and name not in self.requests
            and not self.queues[name].together
            and self.queues[name].resources in short
        ]
