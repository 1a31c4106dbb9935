"""A simulated worker: the worker's own code from the message to the chord's count, without the child.

It is `workers.members.Members` as a worker runs it (plan, claim, renewal, beat, end, all through the worker's link to the store)
with three parts of a process left out: the guard starts nothing and a member "runs" for a given time; Celery's consumer is a
connection that sends the same BLMPOP and unblocks it the same way; Celery's request keeps the three events that Flower sees and
publishes them in the same batches. Hundreds of them share one process and one event loop.
"""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import selectors
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from taskensemble.engine import messages
from taskensemble.engine.records import WorkerRecord
from taskensemble.engine.store import Store
from workers.completion import completion
from workers.link import Wire, pack
from workers.members import Members
from workers.process import Attempt, Outcome
from workers.setup import setup
from workers.slots import Node

READY = b"ready\n"
EVENTS_EVERY = 0.1
TURN_EVERY = 0.25
"""Seconds between two looks at a worker of which nothing was heard: beats and renewals are due every few seconds."""
SERVICE = ThreadPoolExecutor(2, "service")


class NoGuard:
    """Stands where the guard is; it starts nothing, so nothing ever becomes readable."""

    def __init__(self) -> None:
        self._pair = socket.socketpair()

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def beat(self, silence: float, hurry: float) -> None:
        pass

    def flush(self) -> None:
        pass

    def read(self) -> Iterator[Any]:
        return iter(())

    def forget(self, identifier: int) -> None:
        pass


NOBODY = NoGuard()


class Request:
    """What Celery's request does for a member, as far as the broker sees it: three events for Flower."""

    def __init__(self, worker: Simulated, message: dict[str, Any]) -> None:
        self._worker = worker
        self._headers = message["headers"]
        self.queue = str(message["properties"]["delivery_info"]["routing_key"])
        self.args: list[Any] = json.loads(base64.b64decode(message["body"]))[0]
        headers = self._headers
        names = ("root_id", "parent_id", "retries")
        self._event(
            "task-received",
            name=headers["shadow"],
            args=headers["argsrepr"],
            kwargs=headers["kwargsrepr"],
            eta=None,
            expires=None,
            **{name: headers[name] for name in names},
        )

    @property
    def task(self) -> str:
        return str(self._headers["task"])

    def acknowledge(self) -> None:
        """No copy of a delivered message stays in a Redis broker."""

    def on_accepted(self, *_: float) -> None:
        self._event("task-started")

    def on_success(self, result: tuple[bool, Any, float]) -> None:
        self._event("task-succeeded", result=repr(result[1]), runtime=result[2])

    def reject(self, requeue: bool) -> None:
        pass

    def _announce_revoked(self, *_: Any) -> None:
        self._event("task-revoked", terminated=False, signum=None, expired=False)

    def _event(self, kind: str, **fields: Any) -> None:
        worker = self._worker
        worker.events.append(
            {
                "hostname": f"{worker.worker.name}@{worker.worker.host}",
                "utcoffset": 0.0,
                "pid": worker.worker.pid,
                "clock": next(worker.clock),
                "uuid": self._headers["id"],
                **fields,
                "timestamp": time.time(),
                "type": kind,
            }
        )


class Inline:
    """An executor that does it now: threads for each of a thousand workers would be the simulation's cost."""

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)

    def shutdown(self, wait: bool = True) -> None:
        pass


class Simulated(Members):
    """One worker.

    Arguments:
        seconds: a member's "run".
        shared: the store and publisher that setup and completion use in this process.
    """

    def __init__(
        self, number: int, slots: int, url: str, seconds: float, shared: tuple[Store, messages.Publisher]
    ) -> None:
        node = Node(tuple(range(slots)))
        record = WorkerRecord(
            name=f"simulated-{number:05d}",
            host=f"node{number:05d}",
            pid=number + 1,
            boot="",
            pid_start=number + 1,
            slots=slots,
            free=slots,
        )
        super().__init__(record, node, broker_url=url, store_url=url, pinned=False)
        self._guard: Any = NOBODY
        self._preparing: Any = Inline()
        self.on_room = self.on_queues = self._offer_room
        self.events: list[dict[str, Any]] = []
        self.clock = itertools.count(1)
        self._seconds = seconds
        self._shared_store, self._shared_publisher = shared
        self._due: list[tuple[float, int]] = []
        self._fetch, self._side = Wire(url), Wire(url)
        self._client_id = b""
        self._polled: frozenset[str] | None = None
        self._unblocked = False
        self._flush_at = 0.0

    @property
    def next_due(self) -> float:
        """When the next member ends, events leave, or a beat may be due."""
        moment = time.monotonic() + TURN_EVERY
        if self._due:
            moment = min(moment, self._due[0][0])
        return min(moment, self._flush_at) if self.events else moment

    def connections(self) -> list[tuple[int, Callable[[], None]]]:
        """Descriptors to watch, and what to do when one is readable."""
        found = [(descriptor, self.on_store) for descriptor in self.link.descriptors()]
        if self._fetch.connected:
            found.append((self._fetch.fileno(), self._on_messages))
        if self._side.connected:
            found.append((self._side.fileno(), self._on_side))
        return found

    def turn(self) -> bool:
        """What is due now; True when a connection was opened."""
        opened = False
        if not self._fetch.connected:
            answers = self._fetch.connect(("CLIENT", "ID"))
            if answers is not None:
                self._client_id = str(answers[0]).encode()
                self._polled = None
                opened = True
        if not self._side.connected:
            opened |= self._side.connect() is not None
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            attempt = self._attempts.get(heapq.heappop(self._due)[1])
            if attempt is not None:
                self._end_now(attempt)
        if self.events and now >= self._flush_at:
            self._flush_events(now)
        opened |= self.tick()
        self._ask()
        return opened

    # What Celery's consumer and our transport do

    def _ask(self) -> None:
        if self._polled is not None or not self._fetch.connected:
            return
        queues, count = self.plan([messages.SERVICE_QUEUE, *self.waiting.queues])
        self._polled = frozenset(queues)
        self._unblocked = False
        self._fetch.write(pack("BLMPOP", 5, len(queues), *queues, "RIGHT", "COUNT", max(1, count)))

    def _on_messages(self) -> None:
        for answer in self._fetch.read():
            self._polled = None
            for text in answer[1] if answer else ():
                request = Request(self, json.loads(text))
                if request.task == messages.MEMBER:
                    self.waiting.add(request, request.queue)
                else:
                    SERVICE.submit(self._serve, request)

    def _serve(self, request: Request) -> None:
        store, publisher = self._shared_store, self._shared_publisher
        if request.task == messages.SETUP:
            setup(store, publisher, request.args[0], uuid.uuid4().hex, self.lease)
        else:
            completion(store, publisher, *request.args)

    def _offer_room(self) -> None:
        if self._unblocked or self._polled is None or not self._side.connected:
            return
        wanted = self.wanted()
        if wanted and not self._polled.issuperset(wanted):
            self._unblocked = True
            self._side.write(pack("CLIENT", "UNBLOCK", self._client_id))

    def _on_side(self) -> None:
        # 0: the server had not seen the wait yet, so it may be asked again. (PUBLISH answers 0 too, without subscribers.)
        if 0 in self._side.read():
            self._unblocked = False

    def _flush_events(self, now: float) -> None:
        self._flush_at = now + EVENTS_EVERY
        body = base64.b64encode(json.dumps(self.events).encode()).decode()
        self.events.clear()
        delivery = {"exchange": "celeryev", "routing_key": "task.multi"}
        properties = {"delivery_mode": 1, "delivery_info": delivery, "priority": 0, "body_encoding": "base64"}
        properties["delivery_tag"] = str(uuid.uuid4())
        headers = {"hostname": f"{self.worker.name}@{self.worker.host}"}
        message = {"body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": headers}
        self._side.write(pack("PUBLISH", "/0.celeryev/task.multi", json.dumps({**message, "properties": properties})))

    # What the guard does

    def _begin(self, attempt: Attempt) -> None:
        attempt.armed = False
        attempt.pid = self.worker.pid
        attempt.spawned = True
        attempt.request.on_accepted(attempt.pid, time.monotonic())
        attempt.accepted = True
        if self._seconds > 0:
            heapq.heappush(self._due, (time.monotonic() + self._seconds, attempt.id))
        else:
            self._end_now(attempt)

    def _end_now(self, attempt: Attempt) -> None:
        lasted = time.monotonic() - attempt.begun
        durations = self.waiting.durations
        durations[attempt.queue] = 0.8 * durations.get(attempt.queue, lasted) + 0.2 * lasted
        self._finish(attempt, Outcome("c", 0, "", self._seconds))

    def _end(self, attempt: Attempt, *, cancelled: str = "", lost: str = "", grace: float = -1.0) -> None:  # noqa: ARG002
        self._finish(attempt, Outcome("l", None, lost) if lost else Outcome("x", None, cancelled))


def serve(numbers: Sequence[int], slots: int, url: str, seconds: float) -> None:
    """Runs workers in this process until its standard input ends; says READY once all of them wait for messages."""
    shared = Store(url), messages.Publisher(url)
    workers = [Simulated(number, slots, url, seconds, shared) for number in numbers]
    watched: dict[int, tuple[int, Callable[[], None]]] = {}
    poll = selectors.EpollSelector()
    due = [0.0] * len(workers)
    heap = [(0.0, at) for at in range(len(workers))]
    told = False
    poll.register(sys.stdin, selectors.EVENT_READ)
    while True:
        now = time.monotonic()
        touched: set[int] = set()
        while heap and heap[0][0] <= now:
            moment, at = heapq.heappop(heap)
            if moment == due[at]:
                touched.add(at)
        for key, _ in poll.select(0.0 if touched else min(0.1, max(0.0, heap[0][0] - now))):
            if key.fileobj is sys.stdin:
                return
            at, read = watched[key.fd]
            read()
            touched.add(at)
        for at in touched:
            worker = workers[at]
            if worker.turn():
                for descriptor, read in worker.connections():
                    if descriptor not in watched:
                        poll.register(descriptor, selectors.EVENT_READ)
                    watched[descriptor] = (at, read)
            due[at] = worker.next_due
            heapq.heappush(heap, (due[at], at))
        if not told and len(watched) == 4 * len(workers):
            told = True
            sys.stdout.buffer.write(READY)
            sys.stdout.flush()


if __name__ == "__main__":
    serve([int(number) for number in sys.argv[4:]], int(sys.argv[2]), sys.argv[1], float(sys.argv[3]))
