"""The task `member`: from a message to a claim, a process, its end and the chord's count.

Nothing here waits. Messages wait for a slot; a slot is taken, the claim is sent; when the store grants it the guard starts the
program; when the guard reports its end, the store counts it in and Celery's request is told, so that Flower sees it all. The
worker's event loop calls `tick`, `on_guard` and `on_store`; while the broker is away the consumer calls `step` instead.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import select
import shutil
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import redis
from celery.exceptions import Retry
from celery.worker import state

from taskensemble.database import restore_assets
from taskensemble.engine import messages, signing, urls
from taskensemble.engine.allocation import AllocationRecord
from taskensemble.engine.records import (
    SCHEMA,
    DatabaseAddressRecord,
    MemberRecord,
    QueueRecord,
    ResourcesRecord,
    RunRecord,
    TemplateRecord,
    WorkerRecord,
)
from taskensemble.engine.store import Claim, Store, read_claims, reserved_key
from taskensemble.errors import DatabaseError, TaskensembleError
from taskensemble.generation import folder_path
from taskensemble.guard import Ended, Guard, NotStarted, Started, read_ends, read_pids
from workers import colocated, ends, process
from workers.allocation import AllocationSlots, Placement, cancel_steps, job_is_ending
from workers.files import TransferredFiles
from workers.limits import Limits
from workers.link import Link, ReplyError
from workers.logs import about
from workers.process import Attempt, Outcome
from workers.setup import asset_reader
from workers.slots import Node, Slot

logger = logging.getLogger("taskensemble.worker")

_BEAT = 5.0
"""Most seconds between two signs of life of a worker."""
_SHORT = 1.0
"""Members that last less are fetched ahead of free slots."""
_AHEAD = 64
_ASSETS_LAST = 5.0
"""Seconds for which the assets of a run are believed to be where they were seen."""
_NEXT_GANG = 3.0
"""Seconds until a worker looks again at members that run together while others take slots first."""
_NEXT_CLAIM = 3.0
"""Seconds until a worker reads a queue again after the store has stumbled over one of its messages."""
_FORGOTTEN = 5.0
"""Seconds that a server which dies with its machine may forget: it writes to its disk each second, or when that is busy later."""
_HUNGRY_AFTER = 10.0
"""Seconds that members wait for room beside smaller ones before a worker keeps room for them."""
_TOLD_WITHIN = 1.0
"""Seconds within which a worker is told to end when all processes of its job or service are."""
_ANSWERS_WITHIN = 60.0
"""Seconds within which a scheduler that is away is asked again whether it ends a job; one that is away for longer ends none."""
_TAIL = 4000
"""Bytes of a failed member's log that Celery's event carries."""


class MemberFailed(Exception):
    """A member's program failed: what Flower shows for it."""

    def __repr__(self) -> str:
        return f"FAILED: {self}"


@dataclass(frozen=True)
class Failure:
    """What Celery's events tell of a failed member: the parts of an `ExceptionInfo` that they read. Celery's own would show its
    wrapper around the exception, and a traceback of this file."""

    exception: Exception
    traceback: str
    internal: bool = False
    tb: None = None

    @property
    def type(self) -> type[Exception]:
        """Of the exception."""
        return type(self.exception)


@dataclass
class _Finished:
    """An end that the store was told of."""

    attempt: Attempt
    node: str
    words: tuple[Any, ...]
    """Arguments of `finish`."""
    answered: float = math.inf
    """When it was recorded (monotonic)."""


class Members:
    """The members of one worker.

    Arguments:
        worker: how the worker registers itself.
        node: what it may give to members.
        broker_url, store_url: where messages and records are.
        pinned: members are bound to the CPUs of their slot.
        lease: seconds.
        limits: what members may do here.
    """

    def __init__(
        self,
        worker: WorkerRecord,
        node: Node | AllocationSlots,
        *,
        broker_url: str,
        store_url: str,
        pinned: bool,
        lease: float,
        limits: Limits | None = None,
    ) -> None:
        self.worker = worker
        self.node = node
        self.allocation = node.allocation if isinstance(node, AllocationSlots) else None
        self.pinned = pinned
        self.lease = lease
        self.limits = limits or Limits()
        self.store = Store(store_url, patience=5)
        self.link = Link(store_url, self._on_order, self._on_open, self._on_restart)
        self.draining = False
        self.wake: Callable[[], None] = lambda: None
        """Set by the pool: lets the event loop run once more, from another thread."""
        self.wake_later: Callable[[float], None] = lambda _seconds: None
        """Set by the pool: lets it run once more after so many seconds."""
        self.on_queues: Callable[[], None] = lambda: None
        """Set by the consumer: the queues to read have changed."""
        self.on_room: Callable[[], None] = lambda: None
        """Set by the consumer: there is room for messages that were left out of the wait."""
        self.on_surplus: Callable[[str, list[Any]], None] | None = None
        """Set by the consumer of a broker that delivers unasked: takes messages back that find no room here."""
        self.queues: dict[str, QueueRecord] = {}
        self._publisher = messages.Publisher(broker_url)
        self._same_server = urls.is_redis(broker_url) and urls.redis_url(broker_url) == urls.redis_url(store_url)
        self._publishing = ThreadPoolExecutor(1, "publish")
        self._preparing = ThreadPoolExecutor(8, "prepare")
        self._shared = colocated.SharedDatabases()
        self._restoring = threading.Lock()
        self._assets_seen: dict[tuple[str, str], float] = {}
        self._prepared: deque[tuple[Attempt, str | BaseException]] = deque()
        self._asked: deque[tuple[Attempt, Ended]] = deque()
        self._doubted: deque[tuple[float, Attempt, Ended]] = deque()
        self._files = TransferredFiles(self.store, worker.name, lease)
        self._returned: deque[tuple[Attempt, Outcome]] = deque()
        self._waiting: dict[str, deque[Any]] = {}
        self._attempts: dict[int, Attempt] = {}
        self._numbers = itertools.count(1)
        self._token = process.token_prefix(worker)
        self._ends = ends.file_of(self._token)
        self._runs: dict[str, RunRecord] = {}
        self._secrets: dict[tuple[str, int], dict[str, str]] = {}
        self._environments: dict[tuple[str, int], int] = {}
        self._durations: dict[str, float] = {}
        self._guard: Guard | None = None
        self._host = socket.gethostname()
        self._next_beat = 0.0
        self._next_renewal = 0.0
        self._beat = 0
        self._turn = 0
        self._served: dict[str, int] = {}
        self._waits_since: dict[str, float] = {}
        self._hungry = ""
        """A queue whose members have long found no room because smaller ones took it: nothing else is fetched until they do."""
        self._recent: deque[_Finished] = deque()
        """Ends that a server which dies may have forgotten, in their order."""
        self._claims_from = 0.0
        """When the next member may be claimed (monotonic)."""
        self._refused: set[str] = set()
        self._unreadable: set[bytes] = set()
        self._later: dict[str, float] = {}
        """Queues that are left alone, and until when (monotonic): others take slots first, or a claim has failed."""

    # What the event loop calls

    @property
    def running(self) -> int:
        """Attempts that hold a slot."""
        return len(self._attempts)

    @property
    def line_to_broker(self) -> Callable[..., None] | None:
        """Sends a command to the broker without waiting for the answer; None: it is another server than the store, or gone."""
        return self.link.command if self._same_server and self.link.connected else None

    @property
    def busy(self) -> bool:
        """Whether it runs members, or holds messages of some."""
        return bool(self._attempts or self._waiting)

    @property
    def guard(self) -> Guard:
        """The guard beside this worker, started when it is first needed and again when it has died."""
        if self._guard is None:
            self._guard = Guard(process.epitaph(self.worker), self._ends)
            self._guard.beat(0.8 * self.lease, 0.15 * self.lease)
            self._environments.clear()
        return self._guard

    def descriptors(self) -> list[int]:
        """What becomes readable when there is something to do."""
        return [self.guard.fileno(), *self.link.descriptors()]

    def tick(self) -> bool:
        """Everything that does not come from a descriptor; True when the descriptors have changed."""
        now = time.monotonic()
        while self._prepared:
            self._on_prepared(*self._prepared.popleft())
        while self._asked:
            attempt, report = self._asked.popleft()
            if attempt.job_ended:
                self.draining = True  # what would begin now would die with the job
            (self._judge if ends.may_be_told(report) else self._on_ended)(attempt, report)
        if self._doubted:
            self._look_at_doubted(now)
        while self._returned:
            self._finish(*self._returned.popleft())
        if now >= self._next_beat:
            self._register(now)
        if now >= self._next_renewal:
            self._renew(now)
        self._pump()
        changed = self.link.flush()
        try:
            self.guard.flush()
        except OSError:
            self._on_guard_death()
            changed = True
        return changed

    def on_guard(self) -> bool:
        """The guard has reported; False when it has died (and was replaced)."""
        try:
            for report in self.guard.read():
                attempt = self._attempts.get(report.id)
                if attempt is None:
                    continue
                if isinstance(report, Started):
                    attempt.pid = report.pid
                    continue
                try:
                    self._on_end(attempt, report)
                except Exception as error:  # one member's trouble must not cost the others their end
                    what = "The end of member %d of %s could not be handled"
                    logger.exception(what, attempt.index, attempt.run_id, extra=about(attempt))
                    self._finish(attempt, Outcome("l", None, f"its end could not be handled: {error}"))
        except (EOFError, OSError):
            self._on_guard_death()
            return False
        return True

    def on_store(self, descriptor: int | None = None) -> None:
        """The store has answered, or ordered something.

        Arguments:
            descriptor: what is readable; None: perhaps any.
        """
        self.link.receive(descriptor)

    def step(self, timeout: float) -> None:
        """One turn without Celery's event loop."""
        self.tick()
        ready, _, _ = select.select(self.descriptors(), (), (), timeout)
        if ready:
            self.on_guard()
            self.on_store()
        self.tick()

    # Messages

    def add(self, request: Any, queue: str) -> None:
        """A member's message has arrived."""
        self._waiting.setdefault(queue, deque()).append(request)

    def plan(self, queues: list[str]) -> tuple[list[str], int]:
        """Which of these queues to read now, and how many messages to take at most."""
        service = [queue for queue in queues if queue not in self.queues]
        room = self._room()
        wanted = [queue for queue in queues if room.get(queue, 0) > 0]
        passed = self._passed_over(room)
        if self.draining or not (wanted or passed):
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
        return [] if self.draining else [*(queue for queue, free in room.items() if free > 0), *self._passed_over(room)]

    def _room(self) -> dict[str, int]:
        room = {}
        for name, queue in self.queues.items():
            if self._hungry and name != self._hungry:
                continue
            if self._later and self._later.get(name, 0.0) > time.monotonic():
                continue
            free = self.node.fits(queue.resources)
            ahead = 0
            # Members that run together are left for whoever has a slot now.
            lasts = None if queue.together else self._durations.get(name)
            if lasts is not None and lasts < _SHORT:
                slots = max(1, len(self.node.cpus) // max(1, queue.resources.cpus))
                ahead = min(_AHEAD, int(slots * 0.25 / max(lasts, 0.001)))
            waiting = sum(len(requests) for requests in self._waiting.values())
            # Refill in strides: below half of what may wait here, not message by message.
            room[name] = free + ahead - waiting if waiting <= free + ahead // 2 else 0
        return room

    def _passed_over(self, room: dict[str, int]) -> list[str]:
        """Queues without room because another run's short members, fetched ahead, take every slot that becomes free.

        One message of each is fetched beside them: a slot for it is a second away at most, for it takes what one of them takes.
        """
        ahead = [name for name in self._waiting if self._durations.get(name, _SHORT) < _SHORT]
        short = [self.queues[name].resources for name in ahead if name in self.queues]
        return [
            name
            for name, free in room.items()
            if not free
            and name not in self._waiting
            and not self.queues[name].together
            and self.queues[name].resources in short
        ]

    def _pump(self) -> None:
        """Claims what waits, for as long as there are slots: of each run in turn."""
        if self.draining:
            return  # what it has fetched ahead goes back to its queue with the connection
        if (not self.link.connected and self.link.unanswered) or time.monotonic() < self._claims_from:
            return
        claims: dict[tuple[str, str], list[Attempt]] = {}
        for queue, requests in sorted(self._waiting.items(), key=lambda item: self._served.get(item[0], 0)):
            record = self.queues.get(queue)
            resources = record.resources if record is not None else ResourcesRecord()
            while requests:
                slot = self.node.allocate(resources)
                if slot is None:
                    break
                attempt = self._attempt(requests.popleft(), queue, slot)
                self._served[queue] = attempt.id
                self._waits_since.pop(queue, None)
                if queue == self._hungry:
                    self._hungry = ""
                claims.setdefault((attempt.run_id, self._node_of(attempt)), []).append(attempt)
        for queue, requests in list(self._waiting.items()):
            if requests and self.on_surplus is not None and self._durations.get(queue, _SHORT) >= _SHORT:
                surplus = list(requests)
                requests.clear()  # before the call: while the broker answers, more may arrive
                self.on_surplus(queue, surplus)
            if not requests:
                del self._waiting[queue]
        for (run_id, node), attempts in claims.items():
            arguments: list[Any] = [SCHEMA, self.worker.name, node]
            for attempt in attempts:
                arguments += (attempt.index, attempt.entity, attempt.token)
            self.link.call(run_id, "claim", arguments, partial(self._on_claims, attempts))

    def _node_of(self, attempt: Attempt) -> str:
        """Where an attempt runs, as its record says it: the worker's host, or the nodes of its placement in an allocation."""
        return ",".join(attempt.slot.hosts) if isinstance(attempt.slot, Placement) else self._host

    def _attempt(self, request: Any, queue: str, slot: Slot) -> Attempt:
        run_id, index, entity = request.args
        number = next(self._numbers)
        attempt = Attempt(
            id=number,
            run_id=str(run_id),
            index=int(index),
            entity=int(entity),
            token=f"{self._token}{number}",
            request=request,
            queue=queue,
            slot=slot,
            begun=time.monotonic(),
        )
        self._attempts[number] = attempt
        return attempt

    def _on_claims(self, attempts: Sequence[Attempt], answer: Any) -> None:
        if isinstance(answer, ReplyError):
            for attempt in attempts:
                self._later[attempt.queue] = time.monotonic() + _NEXT_CLAIM
                self._drop(attempt)
                attempt.request.reject(requeue=True)
            return
        for attempt, claim in zip(attempts, read_claims(answer), strict=True):
            self._on_claim(attempt, claim)

    def _on_claim(self, attempt: Attempt, claim: Claim) -> None:
        request = attempt.request
        if claim.answer not in ("claimed", "armed"):
            self._drop(attempt)
            self._refuse(attempt, claim.answer)
            return
        request.acknowledge()
        attempt.number, attempt.failures = claim.attempt, claim.failures
        try:
            attempt.run = self._run(attempt.run_id)
            attempt.member = _member(attempt, claim.member)
            if attempt.run.transfer is not None:
                attempt.member = self._files.scratch.localized_member(attempt.run, attempt.member)
            self._read_secrets(attempt)
        except signing.SignatureError as error:
            logger.error("Member %d of %s is refused: %s", attempt.index, attempt.run_id, error, extra=about(attempt))
            self._finish(attempt, Outcome("f", None, f"its record is refused: {error}"))
            return
        except (TaskensembleError, OSError, ValueError, redis.RedisError) as error:
            self._finish(attempt, Outcome("l", None, f"its record could not be read: {error}"))
            return
        if claim.answer == "armed" and not attempt.go:
            attempt.armed = True
        else:
            self._begin(attempt)

    def _refuse(self, attempt: Attempt, answer: str) -> None:
        request = attempt.request
        if answer == "schema":
            advice = "install the same version of taskensemble for drivers and workers"
            what = "Run %s has another record schema than this worker's %d: %s"
            logger.error(what, attempt.run_id, SCHEMA, advice, extra={"run": attempt.run_id})
            self._refused.add(attempt.queue)
            request.reject(requeue=True)
            self.on_queues()
        elif answer == "wait":
            # The next order tells that another entity takes slots; a look without one is for an order that was missed.
            self._later[attempt.queue] = time.monotonic() + _NEXT_GANG
            request.reject(requeue=True)
        elif answer == "cancelled":
            request._announce_revoked("cancelled", False, None, False)
        else:
            what = "Message of member %d of %s refused: %s"
            logger.info(what, attempt.index, attempt.run_id, answer, extra=about(attempt))
            request.on_success((False, answer, 0.0))

    def _run(self, run_id: str) -> RunRecord:
        run = self._runs.get(run_id)
        if run is None:
            if len(self._runs) >= 64:
                self._runs.clear()
            run = self.store.trusted_run(run_id)
            if run.transfer is not None:
                run = self._files.localized(run, {attempt.run_id for attempt in self._attempts.values()})
            self._runs[run_id] = run
        return run

    def _read_secrets(self, attempt: Attempt) -> None:
        """Gets the values of a template's secret variables, once."""
        assert attempt.member is not None
        names, number = attempt.template.secrets, attempt.member.template
        if names and (attempt.run_id, number) not in self._secrets:
            found = self.store.secrets(attempt.run_id)
            known = {name: found[f"{number}:{name}"] for name in names if f"{number}:{name}" in found}
            self._secrets[attempt.run_id, number] = known

    # Starting

    def _begin(self, attempt: Attempt) -> None:
        """The attempt may run: its folder is made, then its program starts."""
        attempt.armed = False
        template = attempt.template
        files = template.files
        assert attempt.run is not None
        if files.copy_ or files.symlink or files.configure or template.databases or attempt.run.transfer is not None:
            self._preparing.submit(self._prepare, attempt)
        else:
            self._on_prepared(attempt, self._folder(attempt))

    def _prepare(self, attempt: Attempt) -> None:
        """What takes time before a start, in a thread: files, and where its databases are."""
        folder = self._folder(attempt)
        if isinstance(folder, str):
            try:
                self._find_databases(attempt, Path(folder))
            except (OSError, TaskensembleError, redis.RedisError) as error:
                folder = error
        self._prepared.append((attempt, folder))
        self.wake()

    def _find_databases(self, attempt: Attempt, folder: Path) -> None:
        assert attempt.run is not None
        assert attempt.member is not None
        uses = attempt.template.databases
        running = self.store.databases(attempt.run.path) if any(use.colocated is None for use in uses) else {}
        for use in uses:
            if use.colocated is None:
                if use.identifier not in running:
                    raise DatabaseError(f"the database {use.identifier!r} that it needs is not running")
                attempt.databases[use.identifier] = running[use.identifier]
                self._restore_assets(attempt, use.identifier, running[use.identifier])
                continue
            content = asset_reader(self.store, attempt.run_id)
            name = f"{attempt.member.name}_db"
            begin = partial(colocated.start, use, use.colocated, folder, name, attempt.template.assets, content)
            if use.colocated.shared:
                # Members with other assets, or another description, have one of their own.
                kind = "".join(record.model_dump_json() for record in (use, *attempt.template.assets))
                database = self._shared.get(attempt.run_id, attempt.entity, kind, begin)
            else:
                database = begin()
                attempt.closers.append(database.stop)
            attempt.databases[use.identifier] = database.address

    def _restore_assets(self, attempt: Attempt, identifier: str, database: DatabaseAddressRecord) -> None:
        """A database that was restarted without its dump has lost the run's assets: they are back before a member starts.

        Each retry looks; a first attempt only when nobody has for a while, so that many small members do not ask in vain.
        """
        assets = attempt.template.assets
        if not assets:
            return
        with self._restoring:
            key = (attempt.run_id, identifier)
            now = time.monotonic()
            if attempt.number == 1 and now - self._assets_seen.get(key, 0.0) < _ASSETS_LAST:
                return
            loaded = restore_assets(database, assets, asset_reader(self.store, attempt.run_id))
            if loaded:
                what = "The database %r had lost %d assets of %s: loaded again"
                logger.warning(what, identifier, loaded, attempt.run_id, extra=about(attempt))
            self._assets_seen[key] = time.monotonic()

    def _folder(self, attempt: Attempt) -> str | BaseException:
        assert attempt.run is not None
        assert attempt.member is not None
        try:
            self.limits.check_folder(attempt.run.entities[attempt.member.entity], attempt.template, attempt.member)
            if attempt.run.transfer is not None:
                self._files.fetch(attempt)
            folder = process.prepare_folder(attempt)
            if self.limits.executables is not None:
                argv = process.command_line(attempt.template, attempt.member, attempt.number)
                environment = process.base_environment(os.environ, attempt.template)
                self.limits.check_program(argv, environment, Path(folder), os.environ)
            return folder
        except (OSError, TaskensembleError, ValueError) as error:
            return error

    def _on_prepared(self, attempt: Attempt, folder: str | BaseException) -> None:
        assert attempt.member is not None
        if isinstance(folder, BaseException):
            policy = attempt.template.policy
            delay = policy.retry_delay if attempt.failures < policy.retries and policy.retry_on is None else None
            self._finish(attempt, Outcome("f", None, f"it could not be prepared: {folder}", 0.0, delay))
            return
        if attempt.cancelled or attempt.lost:
            outcome = Outcome("l", None, attempt.lost) if attempt.lost else Outcome("x", None, attempt.cancelled)
            self._finish(attempt, outcome)
            return
        template, member = attempt.template, attempt.member
        extra = process.member_environment(attempt, attempt.databases, self.pinned)
        argv, extra = process.placed_line(attempt, self.allocation, extra)
        if self.limits.executables is not None and argv[0] != template.command.head[0]:
            # What puts it onto its nodes is this worker's own, not what the member's PATH has under that name.
            argv[0] = shutil.which(argv[0]) or argv[0]
        policy = template.policy
        attempt.folder, name = folder, f"{folder}/{member.name}"
        attempt.spawned = True
        self.guard.spawn(
            attempt.id,
            argv,
            folder=folder,
            out=f"{name}.out",
            err=f"{name}.err",
            environment=self._environment(attempt.run_id, member.template, template),
            extra=extra,
            cpus=attempt.slot.cpus if self.pinned else (),
            walltime=policy.walltime or 0.0,
            warn_before=policy.warn_before or 0.0,
            grace=policy.grace,
            memory=template.resources.memory_mb << 20,
            output_limit=policy.output_limit or 0,
        )
        attempt.request.on_accepted(os.getpid(), time.monotonic())
        attempt.accepted = True
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s of %s starts, attempt %d", member.name, attempt.run_id, attempt.number, extra=about(attempt)
            )

    def _environment(self, run_id: str, number: int, template: TemplateRecord) -> int:
        """The guard's key for a template's environment."""
        known = self._environments.get((run_id, number))
        if known is None:
            known = len(self._environments) + 1
            self._environments[run_id, number] = known
            self.guard.set_environment(
                known, process.base_environment(os.environ, template, self._secrets.get((run_id, number)))
            )
        return known

    # Ending

    def _on_end(self, attempt: Attempt, report: Ended | NotStarted) -> None:
        attempt.over = True
        if not isinstance(report, Ended) or not self._is_doubtful(report):
            self._on_ended(attempt, report)
        elif self.allocation is not None and self.allocation.scheduler == "slurm":
            self._preparing.submit(self._ask_slurm, self.allocation, attempt, report)
        else:
            self._doubted.append((time.monotonic() + _TOLD_WITHIN, attempt, report))
            self.wake_later(_TOLD_WITHIN)

    def _is_doubtful(self, report: Ended) -> bool:
        """Whether this may be the end of its job, or of this worker's service, rather than the program's own."""
        return bool(report.returncode) if self.allocation is not None else ends.may_be_told(report)

    def _ask_slurm(self, allocation: AllocationRecord, attempt: Attempt, report: Ended) -> None:
        """What an end in an allocation hides: the job itself is ending, or the program goes on where its launcher was killed."""
        if report.returncode == -signal.SIGKILL:
            cancel_steps(allocation.job_id, attempt.token, os.environ)
        deadline = time.monotonic() + _ANSWERS_WITHIN
        while not attempt.cancelled:
            ending = job_is_ending(allocation.job_id, os.environ)
            if ending:
                attempt.job_ended = f"its job {allocation.job_id} ended"
            if ending is not None or self._told_to_end or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        self._asked.append((attempt, report))
        self.wake()

    @property
    def _told_to_end(self) -> bool:
        # The word is an exit status: 0 says yes.
        words = (state.should_stop, state.should_terminate)
        return self.draining or any(word is not None and word is not False for word in words)

    def _look_at_doubted(self, now: float) -> None:
        """Ends that may not be the programs' own: they are not, if this worker is told to end at the same time."""
        while self._doubted and (self._told_to_end or self._doubted[0][0] <= now):
            _, attempt, report = self._doubted.popleft()
            self._judge(attempt, report)

    def _judge(self, attempt: Attempt, report: Ended) -> None:
        if self._told_to_end and not attempt.cancelled:
            attempt.job_ended = attempt.job_ended or "its worker was told to end, and it with it"
        self._on_ended(attempt, report)

    def _on_ended(self, attempt: Attempt, report: Ended | NotStarted) -> None:
        assert attempt.run is not None
        assert attempt.member is not None
        folder = attempt.folder
        outcome = process.outcome_of(attempt, report, folder)
        if attempt.template.policy.keep_outputs == "failed":
            process.drop_outputs(folder, attempt.member.name, completed=outcome.letter == "c")
        lasted = time.monotonic() - attempt.begun
        known = self._durations.get(attempt.queue, lasted)
        self._durations[attempt.queue] = 0.8 * known + 0.2 * lasted
        if attempt.run.transfer is None:
            self._finish(attempt, outcome)
        else:
            self._preparing.submit(self._send_back, attempt, outcome)

    def _send_back(self, attempt: Attempt, outcome: Outcome) -> None:
        """In a thread: what the attempt has left goes to the driver before its end is told."""
        try:
            outcome = self._files.send_back(attempt, outcome)
        except Exception as error:  # its end must be told, whatever a store's library raises
            logger.exception("The files of member %d of %s could not be sent back", attempt.index, attempt.run_id)
            outcome = replace(outcome, letter="f", reason=f"its files could not be sent back: {error}")
        self._returned.append((attempt, outcome))
        self.wake()

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        """Gives the slot back and tells the store how the attempt ended."""
        cpus = ",".join(map(str, attempt.slot.cpus))
        arguments = (attempt.index, attempt.entity, attempt.token, *ends.finish_words(outcome), attempt.pid, cpus)
        finished = _Finished(attempt, self._node_of(attempt), arguments)
        self._recent.append(finished)
        self.link.call(attempt.run_id, "finish", arguments, partial(self._on_finished, finished, outcome))
        self._drop(attempt)

    def _on_finished(self, finished: _Finished, outcome: Outcome, answer: Any) -> None:
        attempt = finished.attempt
        finished.answered = time.monotonic()
        word = answer[0].decode() if isinstance(answer, list) else "stale"
        if logger.isEnabledFor(logging.INFO):
            how = {"c": "completed", "f": "failed", "x": "was cancelled", "l": "was lost"}[outcome.letter]
            name = attempt.index if attempt.member is None else attempt.member.name
            what = "%s of %s %s after %.3f s%s (%s)"
            reason = f": {outcome.reason}" if outcome.reason else ""
            logger.info(what, name, attempt.run_id, how, outcome.ran, reason, word, extra=about(attempt))
        if attempt.spawned and isinstance(answer, list):
            self.guard.forget(attempt.id)
        if word == "retry":
            self._publish_member(attempt, attempt.number + 1)
        elif word == "zero":
            run = self._runs.get(attempt.run_id) or self.store.run(attempt.run_id)
            message = messages.completion_message(run, attempt.entity)
            self._publish(messages.SERVICE_QUEUE, json.dumps(message))
        self._tell_celery(attempt, outcome, word)

    def _tell_celery(self, attempt: Attempt, outcome: Outcome, word: str) -> None:
        request = attempt.request
        if not attempt.accepted:
            request.on_accepted(os.getpid(), time.monotonic())
        if word == "stale":
            request.on_success((False, "its lease was gone: the result does not count", outcome.ran))
        elif outcome.letter == "x":
            request._announce_revoked("terminated", True, "SIGTERM", False)
        elif word in ("retry", "delayed"):
            failure = self._failure(attempt, outcome)
            again = Retry(exc=failure.exception, when=outcome.retry_delay)
            request.on_retry(Failure(again, failure.traceback))
        elif outcome.letter == "f":
            request.on_failure(self._failure(attempt, outcome), return_ok=True)
        else:
            request.on_success((False, 0, outcome.ran))

    def _failure(self, attempt: Attempt, outcome: Outcome) -> Failure:
        """The reason, and as its traceback the end of what the program wrote to its standard error, without its secrets."""
        known = MemberFailed(f"return code {outcome.returncode}" if outcome.returncode is not None else outcome.reason)
        if attempt.run is None or attempt.member is None:
            return Failure(known, outcome.reason)
        log = Path(folder_path(attempt.run.entities[attempt.entity], attempt.member), f"{attempt.member.name}.err")
        tail = _tail(log) if attempt.spawned else ""
        for value in self._secrets.get((attempt.run_id, attempt.member.template), {}).values():
            tail = tail.replace(value, "…") if value else tail
        return Failure(known, f"{outcome.reason}\n\n{tail}".rstrip())

    def _drop(self, attempt: Attempt) -> None:
        if self._attempts.pop(attempt.id, None) is not None:
            for closer in attempt.closers:
                self._preparing.submit(closer)
            full = not self.node.free
            self.node.release(attempt.slot)
            if full or not self._waiting:
                self.on_room()

    def _publish_member(self, attempt: Attempt, number: int) -> None:
        run, member = attempt.run, attempt.member
        if run is None or member is None:
            return  # the reaper sees that its message is missing
        message = messages.member_message(
            run, attempt.index, attempt.entity, member.template, name=member.name, attempt=number
        )
        self._publish(attempt.queue, json.dumps(message))

    def _publish(self, queue: str, text: str) -> None:
        if self._same_server:
            self.link.command("LPUSH", queue, text)
        else:
            self._publishing.submit(self._publisher.publish_raw, queue, [text]).add_done_callback(_log_failure)

    # Orders, leases and registration

    def _on_order(self, order: dict[str, Any]) -> None:
        kind = order.get("order")
        if kind == "queues":
            self.read_queues()
        elif kind == "cancel":
            self._on_cancel(
                str(order["run"]), order.get("entity"), order.get("index"), str(order.get("reason") or "stopped")
            )
        elif kind == "go":
            for attempt in list(self._attempts.values()):
                if attempt.run_id == order["run"] and attempt.entity == order["entity"]:
                    attempt.go = True  # the order may overtake the answer to the claim
                    if attempt.armed:
                        self._begin(attempt)
        elif kind == "disarm":
            for attempt in list(self._attempts.values()):
                if attempt.armed and (attempt.run_id, attempt.entity) == (order["run"], order["entity"]):
                    self._disarm(attempt)
        elif kind == "gangs":
            self._later.clear()
            self.on_room()

    def _on_open(self) -> None:
        """Orders may have been missed: ask for all that they say."""
        self.read_queues()
        self._next_renewal = 0.0

    def _on_restart(self) -> None:
        """The store was started again, and may have forgotten its last seconds: it is told again what has ended and what runs
        here, before anybody claims anything. Messages that come back meanwhile find their members taken or done."""
        now = time.monotonic()
        pause = min(_BEAT, self.lease / 4) + 1.0  # every worker has noticed by its next beat
        self._claims_from = now + pause
        self.wake_later(pause)
        self._next_beat = 0.0
        self._renew(now)
        for finished in self._recent:
            attempt = finished.attempt
            if attempt.number:
                known = (attempt.index, attempt.entity, attempt.token, attempt.number, attempt.pid)
                self.link.call(attempt.run_id, "renew", (self.worker.name, finished.node, *known))
                if finished.answered < math.inf:
                    self.link.call(attempt.run_id, "finish", finished.words)

    def read_queues(self) -> None:
        """Asks the store for the queues of active runs."""
        if self.allocation is not None:
            self.link.command("SMEMBERS", reserved_key(self.allocation.job_id), callback=self._on_reserved)
        self.link.command("HGETALL", "te:queues", callback=self._on_queue_list)

    def _on_reserved(self, answer: Any) -> None:
        if isinstance(self.node, AllocationSlots) and not isinstance(answer, ReplyError):
            self.node.reserve(name.decode() for name in answer)

    def _on_queue_list(self, answer: Any) -> None:
        if isinstance(answer, ReplyError):
            return
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
            if record.batch_queue == self.worker.queue
            and record.name not in self._refused
            and self.node.could_ever(record.resources)
        }
        if fitting != self.queues:
            self.queues = fitting
            self._durations = {name: lasts for name, lasts in self._durations.items() if name in fitting}
            self._served = {name: last for name, last in self._served.items() if name in fitting}
            self._runs = {name: run for name, run in self._runs.items() if any(q.run == name for q in fitting.values())}
            self._secrets = {key: known for key, known in self._secrets.items() if key[0] in self._runs}
            active = {record.run for record in fitting.values()}
            self._assets_seen = {key: seen for key, seen in list(self._assets_seen.items()) if key[0] in active}
            self.on_queues()
            self._preparing.submit(self._shared.stop, {queue.run for queue in fitting.values()})

    def _on_cancel(self, run_id: str, entity: int | None, index: int | None, reason: str) -> None:
        for attempt in list(self._attempts.values()):
            named = attempt.run_id == run_id and entity in (None, attempt.entity) and index in (None, attempt.index)
            if named:
                self._end(attempt, cancelled=reason)

    def _end(self, attempt: Attempt, *, cancelled: str = "", lost: str = "", grace: float = -1.0) -> None:
        """Ends an attempt that has begun, or will have; repeated calls do no harm."""
        attempt.cancelled = attempt.cancelled or cancelled
        attempt.lost = attempt.lost or lost
        if attempt.spawned:
            self.guard.end(attempt.id, grace)
        elif attempt.armed:
            self._finish(attempt, Outcome("l", None, lost) if lost else Outcome("x", None, cancelled))

    def _renew(self, now: float) -> None:
        """Moves the leases' counters; what the store says of an attempt counts."""
        self._next_renewal = now + min(self.lease / 12, 10.0)
        by_run: dict[tuple[str, str], list[Attempt]] = {}
        for attempt in self._attempts.values():
            if attempt.number:
                by_run.setdefault((attempt.run_id, self._node_of(attempt)), []).append(attempt)
        for (run_id, node), attempts in by_run.items():
            arguments: list[Any] = [self.worker.name, node]
            for attempt in attempts:
                arguments += (attempt.index, attempt.entity, attempt.token, attempt.number, attempt.pid)
            self.link.call(run_id, "renew", arguments, partial(self._on_renewed, attempts), insists=False)
        if not by_run:
            self.link.command("PING", callback=lambda answer: self._on_renewed((), answer), insists=False)

    def _on_renewed(self, attempts: Sequence[Attempt], answer: Any) -> None:
        if isinstance(answer, ReplyError):
            # While a server can write nothing, nobody can claim these members. Once it can, reapers look at leases anew.
            if answer.writes_nothing:
                self.guard.beat(0.8 * self.lease, 0.15 * self.lease)
            return
        self.guard.beat(0.8 * self.lease, 0.15 * self.lease)
        for attempt, word in zip(attempts, answer if attempts else (), strict=True):
            if attempt.id not in self._attempts:
                continue
            if word == b"stop":
                self._end(attempt, cancelled="stopped")
            elif word == b"lost":
                self._end(attempt, lost="its lease was gone", grace=0.0)
            elif word == b"ok" and attempt.armed:
                self._begin(attempt)

    def _disarm(self, attempt: Attempt) -> None:
        """Gives the slot back: others may have it, for not all of the entity's members can run together now."""

        def answered(answer: Any) -> None:
            if answer == 1 and attempt.id in self._attempts and attempt.armed:
                self._drop(attempt)
                self._publish_member(attempt, attempt.number)

        self.link.call(attempt.run_id, "disarm", (attempt.index, attempt.entity, attempt.token), answered)

    def _register(self, now: float) -> None:
        self._next_beat = now + min(_BEAT, self.lease / 4)
        self._look_for_hunger()
        while self._recent and self._recent[0].answered < self.link.heard - _FORGOTTEN:
            self._recent.popleft()
        self._beat += 1
        record = self.worker.model_copy(
            update={
                "free": self.node.free,
                "running": len(self._attempts),
                "rooms": {} if self.draining else self._rooms(),
                "nodes": self.node.kinds,
                "beat": self._beat,
                "seen": time.time(),
            }
        )
        self.link.command(
            "HSET", "te:workers", self.worker.name, record.model_dump_json(exclude_defaults=True), insists=False
        )

    def _rooms(self) -> dict[str, int]:
        rooms = {name: self.node.fits(queue.resources) for name, queue in self.queues.items()}
        return {name: room for name, room in rooms.items() if room}

    def _look_for_hunger(self) -> None:
        """Asks how many members wait that do not fit now; only on a broker that can tell without being read."""
        for name, queue in self.queues.items():
            if self.node.fits(queue.resources):
                self._waits_since.pop(name, None)
            elif self._same_server:
                self.link.command("LLEN", name, callback=partial(self._on_length, name))
        if self._hungry and self._hungry not in self._waits_since:
            self._hungry = ""

    def _on_length(self, name: str, answer: Any) -> None:
        if not isinstance(answer, int) or not answer or name not in self.queues:
            self._waits_since.pop(name, None)
            return
        since = self._waits_since.setdefault(name, time.monotonic())
        others = any(attempt.queue != name for attempt in self._attempts.values())
        if not self._hungry and others and time.monotonic() - since > _HUNGRY_AFTER:
            self._hungry = name

    def _on_guard_death(self) -> None:
        """The guard is gone: this worker ends what it left, and starts the members anew under another guard."""
        logger.error("The guard has died; its members are ended and run again")
        if self._guard is not None:
            self._guard.abandon()
            self._guard = None
        spawned = [attempt for attempt in self._attempts.values() if attempt.spawned and not attempt.over]
        noted = read_ends(self._ends) if self._ends is not None else {}
        pids = read_pids(self._ends) if self._ends is not None else {}
        for attempt in spawned:
            attempt.pid = attempt.pid or pids.get(attempt.id, 0)
        known = {attempt.id: noted.get(attempt.id) or process.reap(attempt) for attempt in spawned}
        process.end_trees({attempt.token for attempt in spawned})
        for attempt in spawned:
            report = known[attempt.id]
            if report is not None and ends.counts(report, scheduled=self.allocation is not None):
                self._on_end(attempt, report)
            else:
                self._finish(attempt, Outcome("l", None, attempt.lost or "its guard died"))
            process.reap(attempt)

    # The end of the worker

    def drain(self, limit: float) -> None:
        """Warm shutdown: no new members; those that run may end within `limit` seconds, then they go back to the queue."""
        self.draining = True
        deadline = time.monotonic() + limit
        while self._attempts and time.monotonic() < deadline and state.should_terminate is None:
            self.step(min(0.5, max(0.01, deadline - time.monotonic())))
        for attempt in list(self._attempts.values()):
            self._end(attempt, lost="its worker was shut down")
        deadline = time.monotonic() + 15
        while (self._attempts or self.link.unanswered) and time.monotonic() < deadline:
            self.step(0.05)
            if not self._attempts and not self.link.connected:
                break
        self.link.command("HDEL", "te:workers", self.worker.name)
        self.step(0.0)
        deadline = time.monotonic() + 2
        while self.link.unanswered and self.link.connected and time.monotonic() < deadline:
            self.step(0.02)
        self._publishing.shutdown(wait=True)
        self._shared.stop(set())
        self._preparing.shutdown(wait=True)
        self._files.close()
        if self._guard is not None:
            self._guard.close()
        self.link.close()
        self.store.close()
        self._publisher.close()


def _member(attempt: Attempt, text: str) -> MemberRecord:
    """A claimed member's record.

    Raises:
        SignatureError: this worker has keys, and it is not signed with one, or is the record of another member.
    """
    keys = signing.from_environment()
    if keys is None:
        return MemberRecord.model_validate_json(text)
    member = MemberRecord.model_validate_json(keys.unseal(signing.MEMBER, attempt.run_id, text))
    if (member.index, member.entity) != (attempt.index, attempt.entity):
        raise signing.SignatureError(f"it is the record of member {member.index} of entity {member.entity}")
    return member


def _tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as stream:
            start = max(0, stream.seek(0, os.SEEK_END) - _TAIL)
            stream.seek(start)
            text = stream.read(_TAIL).decode(errors="replace")
    except OSError:
        return ""
    return text.partition("\n")[2] if start else text


def _log_failure(future: Future[None]) -> None:
    error = future.exception()
    if error is not None:
        logger.error("A message could not be published, the reaper will: %s", error)
