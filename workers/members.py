"""The task `member`: from a message to a claim, a process, its end and the chord's count.

Nothing here waits. Messages wait for a slot; a slot is taken, the claim is sent; when the store grants it the guard starts the
program; when the guard reports its end, the store counts it in and Celery's request is told, so that Flower sees it all. The
worker's event loop calls `tick`, `on_guard` and `on_store`; while the broker is away the consumer calls `step` instead.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import select
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import redis
from celery.worker import state

from taskensemble.engine import messages, signing
from taskensemble.engine.records import SCHEMA, TemplateRecord, WorkerRecord
from taskensemble.engine.replies import Claim, read_claims
from taskensemble.engine.store import Store, reserved_key
from taskensemble.errors import TaskensembleError
from taskensemble.guard import Ended, Guard, NotStarted, Started, read_ends, read_pids
from workers import ends, process
from workers.allocation import AllocationSlots, Placement
from workers.doubts import Doubts
from workers.events import tell_celery
from workers.files import TransferredFiles
from workers.limits import Limits
from workers.link import Link, ReplyError
from workers.logs import about
from workers.outbox import Outbox
from workers.preparation import Preparation
from workers.process import Attempt, Outcome
from workers.registration import Finished, Registration
from workers.slots import Node, Slot
from workers.trusted import TrustedRecords
from workers.waiting import Waiting

logger = logging.getLogger("taskensemble.worker")

_NEXT_GANG = 3.0
"""Seconds until a worker looks again at members that run together while others take slots first."""
_NEXT_CLAIM = 3.0
"""Seconds until a worker reads a queue again after the store has stumbled over one of its messages."""


class Members:
    """The members of one worker.

    Arguments:
        worker: how the worker registers itself.
        node: what it may give to members.
        broker_url, store_url: where messages and records are.
        pinned: members are bound to the CPUs of their slot.
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
        limits: Limits | None = None,
    ) -> None:
        self.worker = worker
        self.node = node
        self.allocation = node.allocation if isinstance(node, AllocationSlots) else None
        self.pinned = pinned
        self.lease = worker.lease
        self.limits = limits or Limits()
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
        self.store = Store(store_url, patience=5)
        self.link = Link(store_url, self._on_order, self._on_open, self._on_restart)
        self.waiting = Waiting(node, worker.queue)
        self._attempts: dict[int, Attempt] = {}
        """Those that hold a slot, by their number on this worker."""
        self._numbers = itertools.count(1)
        self._token = process.token_prefix(worker)
        self._ends = ends.file_of(self._token)
        self._guard: Guard | None = None
        self._environments: dict[tuple[str, int], int] = {}
        self._claims_from = 0.0
        """When the next member may be claimed (monotonic)."""
        self._outbox = Outbox(broker_url, store_url, self.link)
        self._preparing = ThreadPoolExecutor(8, "prepare")
        self._handed: deque[Callable[[], None]] = deque()
        """What threads want done on the event loop."""
        self._files = TransferredFiles(self.store, worker.name, self.lease)
        self._records = TrustedRecords(self.store, self._files, self._attempts)
        self._preparation = Preparation(self.store, self._files, self.limits)
        self._registration = Registration(
            worker, node, self.link, self._attempts, on_heard=self._beat_guard, on_word=self._on_word
        )
        self._doubts = Doubts(
            self.allocation,
            self._preparing,
            hand=self._hand,
            told_to_end=self._is_told_to_end,
            on_end=self._on_judged,
        )

    # What the event loop calls

    @property
    def running(self) -> int:
        """Attempts that hold a slot."""
        return len(self._attempts)

    @property
    def line_to_broker(self) -> Callable[..., None] | None:
        """Sends a command to the broker without waiting for the answer; None: it is another server than the store, or gone."""
        return self.link.command if self._outbox.on_the_link and self.link.connected else None

    @property
    def busy(self) -> bool:
        """Whether it runs members, or holds messages of some."""
        return bool(self._attempts or self.waiting.requests)

    @property
    def guard(self) -> Guard:
        """The guard beside this worker, started when it is first needed and again when it has died."""
        if self._guard is None:
            self._guard = Guard(process.epitaph(self.worker), self._ends)
            self._beat_guard()
            self._environments.clear()
        return self._guard

    def _beat_guard(self) -> None:
        """The store knows of this worker's leases: its guard may let the members run for another while."""
        self.guard.beat(0.8 * self.lease, 0.15 * self.lease)

    def descriptors(self) -> list[int]:
        """What becomes readable when there is something to do."""
        return [self.guard.fileno(), *self.link.descriptors()]

    def tick(self) -> bool:
        """Everything that does not come from a descriptor; True when the descriptors have changed."""
        now = time.monotonic()
        while self._handed:
            self._handed.popleft()()
        self._doubts.tick(now)
        if now >= self._registration.next_beat:
            self._leave_late_queues()
            self._look_for_hunger()
            self._registration.beat(now, {} if self.draining else self.waiting.rooms())
        if now >= self._registration.next_renewal:
            self._registration.renew(now)
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

    def _hand(self, what: Callable[[], None]) -> None:
        """Has something done on the event loop, from a thread."""
        self._handed.append(what)
        self.wake()

    def _is_told_to_end(self) -> bool:
        # Celery's words are exit statuses: 0 says yes.
        words = (state.should_stop, state.should_terminate)
        return self.draining or any(word is not None and word is not False for word in words)

    # Messages and claims

    def plan(self, queues: list[str]) -> tuple[list[str], int]:
        """Which of these queues to read now, and how many messages to take at most."""
        return self.waiting.plan(queues, draining=self.draining)

    def wanted(self) -> list[str]:
        """Queues whose members would find room now."""
        return [] if self.draining else self.waiting.wanted()

    def _pump(self) -> None:
        """Claims what waits, for as long as there are slots."""
        if self.draining:
            return  # what it has fetched ahead goes back to its queue with the connection
        if (not self.link.connected and self.link.unanswered) or time.monotonic() < self._claims_from:
            return
        claims: dict[tuple[str, str], list[Attempt]] = {}
        for request, queue, slot in self.waiting.take():
            attempt = self._attempt(request, queue, slot)
            claims.setdefault((attempt.run_id, attempt.node), []).append(attempt)
        self.waiting.tidy(self.on_surplus)
        for (run_id, node), attempts in claims.items():
            arguments: list[Any] = [SCHEMA, self.worker.name, node]
            for attempt in attempts:
                arguments += (attempt.index, attempt.entity, attempt.token)
            self.link.call(run_id, "claim", arguments, partial(self._on_claims, attempts))

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
            node=",".join(slot.hosts) if isinstance(slot, Placement) else self.worker.host,
            begun=time.monotonic(),
        )
        self._attempts[number] = attempt
        return attempt

    def _on_claims(self, attempts: Sequence[Attempt], answer: Any) -> None:
        if isinstance(answer, ReplyError):
            for attempt in attempts:
                self.waiting.later[attempt.queue] = time.monotonic() + _NEXT_CLAIM
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
            self._records.read(attempt, claim.member)
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
            self.waiting.refused.add(attempt.queue)
            request.reject(requeue=True)
            self.on_queues()
        elif answer == "wait":
            # The next order tells that another entity takes slots; a look without one is for an order that was missed.
            self.waiting.later[attempt.queue] = time.monotonic() + _NEXT_GANG
            request.reject(requeue=True)
        elif answer == "cancelled":
            request._announce_revoked("cancelled", False, None, False)
        else:
            what = "Message of member %d of %s refused: %s"
            logger.info(what, attempt.index, attempt.run_id, answer, extra=about(attempt))
            request.on_success((False, answer, 0.0))

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
            self._on_prepared(attempt, self._preparation.folder(attempt))

    def _prepare(self, attempt: Attempt) -> None:
        """In a thread: what takes time before a start."""
        self._hand(partial(self._on_prepared, attempt, self._preparation.prepare(attempt)))

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
                known, process.base_environment(os.environ, template, self._records.secrets(run_id, number))
            )
        return known

    # Ending

    def _on_end(self, attempt: Attempt, report: Ended | NotStarted) -> None:
        attempt.over = True
        if isinstance(report, Ended) and self._doubts.concern(report):
            self.wake_later(self._doubts.look_into(attempt, report))
        else:
            self._on_ended(attempt, report)

    def _on_judged(self, attempt: Attempt, report: Ended) -> None:
        if attempt.job_ended:
            self.draining = True  # what would begin now would end with the job
        self._on_ended(attempt, report)

    def _on_ended(self, attempt: Attempt, report: Ended | NotStarted) -> None:
        assert attempt.run is not None
        assert attempt.member is not None
        folder = attempt.folder
        outcome = process.outcome_of(attempt, report, folder)
        if attempt.template.policy.keep_outputs == "failed":
            process.drop_outputs(folder, attempt.member.name, completed=outcome.letter == "c")
        lasted = time.monotonic() - attempt.begun
        durations = self.waiting.durations
        durations[attempt.queue] = 0.8 * durations.get(attempt.queue, lasted) + 0.2 * lasted
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
        self._hand(partial(self._finish, attempt, outcome))

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        """Gives the slot back and tells the store how the attempt ended."""
        cpus = ",".join(map(str, attempt.slot.cpus))
        arguments = (attempt.index, attempt.entity, attempt.token, *ends.finish_words(outcome), attempt.pid, cpus)
        finished = Finished(attempt, arguments)
        self._registration.ended.append(finished)
        self.link.call(attempt.run_id, "finish", arguments, partial(self._on_finished, finished, outcome))
        self._drop(attempt)

    def _on_finished(self, finished: Finished, outcome: Outcome, answer: Any) -> None:
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
            message = messages.completion_message(self._records.run(attempt.run_id), attempt.entity)
            self._outbox.publish(messages.SERVICE_QUEUE, json.dumps(message))
        secrets = self._records.secrets(attempt.run_id, attempt.member.template) if attempt.member is not None else {}
        tell_celery(attempt, outcome, word, secrets.values())

    def _drop(self, attempt: Attempt) -> None:
        if self._attempts.pop(attempt.id, None) is not None:
            for closer in attempt.closers:
                self._preparing.submit(closer)
            full = not self.node.free
            self.node.release(attempt.slot)
            if full or not self.waiting.requests:
                self.on_room()

    def _publish_member(self, attempt: Attempt, number: int) -> None:
        run, member = attempt.run, attempt.member
        if run is None or member is None:
            return  # the reaper sees that its message is missing
        message = messages.member_message(
            run, attempt.index, attempt.entity, member.template, name=member.name, attempt=number
        )
        self._outbox.publish(attempt.queue, json.dumps(message))

    # Orders, and what the store says of leases

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
            self.waiting.later.clear()
            self.on_room()

    def _on_open(self) -> None:
        """Orders may have been missed: ask for all that they say."""
        self.read_queues()
        self._registration.next_renewal = 0.0

    def _on_restart(self) -> None:
        """The store was started again, and may have forgotten its last seconds: it is told again what has ended and what runs
        here, before anybody claims anything. Messages that come back meanwhile find their members taken or done."""
        now = time.monotonic()
        pause = self._registration.interval + 1.0  # every worker has noticed by its next beat
        self._claims_from = now + pause
        self.wake_later(pause)
        self._registration.tell_again(now)

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
        if self.waiting.follow(answer):
            active = {queue.run for queue in self.waiting.queues.values()}
            self._records.keep(active)
            self._preparation.keep(active)
            self.on_queues()
            self._preparing.submit(self._preparation.stop_shared, active)

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

    def _on_word(self, attempt: Attempt, word: bytes) -> None:
        """What the store says of an attempt when its lease is renewed."""
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

    def _leave_late_queues(self) -> None:
        """Leaves members to others that ask for more time than is left here."""
        known = len(self.waiting.queues)
        for request in self.waiting.leave_late():
            request.reject(requeue=True)
        if len(self.waiting.queues) < known:
            self.on_queues()

    def _look_for_hunger(self) -> None:
        """Asks how many members wait that do not fit now; only on a broker that can tell without being read."""
        for name in self.waiting.without_room():
            if self._outbox.on_the_link:
                self.link.command("LLEN", name, callback=partial(self._on_length, name))

    def _on_length(self, name: str, answer: Any) -> None:
        others_run = any(attempt.queue != name for attempt in self._attempts.values())
        self.waiting.on_length(name, answer, time.monotonic(), others_run=others_run)

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
        self._registration.leave()
        self.step(0.0)
        deadline = time.monotonic() + 2
        while self.link.unanswered and self.link.connected and time.monotonic() < deadline:
            self.step(0.02)
        self._outbox.close()
        self._preparation.stop_shared(())
        self._preparing.shutdown(wait=True)
        self._files.close()
        if self._guard is not None:
            self._guard.close()
        self.link.close()
        self.store.close()
