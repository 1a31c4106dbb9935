"""The reaper: a duty that any one worker holds under a lock in the store. It repairs what a crash has left half done.

  * a lease whose counter has not moved for one lease, on this observer's monotonic clock: the attempt is lost
  * a worker of this machine whose process is gone: its attempts are lost at once
  * retries that are due; members that are queued in the record but whose message is in no queue
  * an entity that has nothing left but was not closed, or that waits for nothing but was not released; a run whose setup has died
  * members that no registered worker could ever run, after the time that their run allows; it is written to the log before
  * entities that run together: one that gets no further gives its slots back, and another one has its turn
  * runs that have ended: their queues, and those that a late message has made anew
After a connection to the store has failed, or the store was restarted, all observations begin anew.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import redis

from taskensemble.engine import messages
from taskensemble.engine.fit import lacks_of
from taskensemble.engine.host import start_time
from taskensemble.engine.records import EntityRecord, RunRecord, State, WorkerRecord
from taskensemble.engine.replies import Held
from taskensemble.engine.store import REAPER_LOCK, Store
from taskensemble.errors import RecordSchemaError, RunNotFoundError
from taskensemble.guard import Ended
from workers import ends, process
from workers.completion import retire
from workers.setup import publish_members

logger = logging.getLogger("taskensemble.worker")

_MISSING_FOR = 15.0
"""Most seconds that a queued member may be in no queue before it is published again: it may be on its way to a worker."""
_STRAY_FOR = 5.0
"""Seconds after which a queue of no run is deleted: a run's queues are made known before the first message."""
_GANG_PATIENCE = 30.0
"""Seconds for which an entity whose members run together may hold slots without getting another."""
_GANG_PAUSE = 15.0
"""Seconds for which it takes none afterwards."""
_BURIAL = 45.0
"""Seconds that the guard of a dead worker has to end the members and to say so; then the reaper does it."""


class Reaper(threading.Thread):
    """The duty of one worker; it works only while it holds the lock.

    Arguments:
        lease: seconds.
        interval: seconds between two looks.
    """

    def __init__(
        self, worker: WorkerRecord, broker_url: str, store_url: str, lease: float, interval: float = 1.0
    ) -> None:
        super().__init__(name="reaper", daemon=True)
        self._worker = worker
        self._store = Store(store_url, patience=2)
        self._publisher = messages.Publisher(broker_url)
        self._lease = lease
        self._interval = interval
        self._over = threading.Event()
        self._seen: dict[tuple[str, str], tuple[str, float]] = {}
        self._server = ""
        self._workers: list[WorkerRecord] = []
        """Those registered at this look."""
        self._cursor = 0
        self._strays: dict[str, float] = {}
        """Queues of no run, and since when they are known."""
        self._stumbled: set[str] = set()
        """Runs that could not be looked at."""
        self._told: dict[tuple[str, int], str] = {}
        """What was said of entities that wait in vain."""

    def stop(self) -> None:
        """Gives the duty up."""
        self._over.set()

    def run(self) -> None:
        while not self._over.wait(self._interval):
            try:
                if self._holds_lock():
                    self.look()
            except (redis.RedisError, OSError) as error:
                logger.info("The reaper cannot reach store or broker: %s", error)
                self._seen.clear()
            except Exception:
                logger.exception("The reaper stumbled and goes on")
        with suppress(redis.RedisError, OSError):
            self._release_lock()

    def look(self) -> None:
        """One round over all active runs."""
        server = self._store.server_id()
        if server != self._server:
            self._server = server
            self._seen.clear()
        self._bury_workers()
        self._workers = self._store.workers()
        self._look_at_gangs()
        self._drop_strays()
        for run_id in self._store.active_runs():
            try:
                self._look_at(run_id)
            except RunNotFoundError:
                self._store.retire(run_id)
            except RecordSchemaError:
                continue
            except (redis.ConnectionError, redis.TimeoutError):
                raise
            except Exception:  # one run's trouble must not cost the others their reaper
                if run_id not in self._stumbled:
                    self._stumbled.add(run_id)
                    logger.exception("The reaper cannot look at %s", run_id, extra={"run": run_id})

    def _look_at(self, run_id: str) -> None:
        run = self._store.run(run_id)
        status = self._store.status(run_id)
        if status.state.final:
            retire(self._store, self._publisher, run_id)
            self._seen = {key: seen for key, seen in self._seen.items() if key[0] != run_id}
            self._told = {key: told for key, told in self._told.items() if key[0] != run_id}
            return
        if status.state is State.NEW:
            self._look_at_setup(run)
            return
        self._publish(run, self._store.due(run_id))
        self._look_at_leases(run)
        for entity, counters, state in self._store.entity_status(run_id):
            if state.final:
                continue
            if counters.queued + counters.running == 0:
                if self._stands(run_id, f"close:{entity.index}", "0") > 5.0:
                    self._publisher.publish([messages.completion_message(run, entity.index)])
                    self._forget(run_id, f"close:{entity.index}")
            elif state is State.NEW:
                # It waits for another, or who was to release it has died: the run's setup, or the other's completion.
                if self._stands(run_id, f"release:{entity.index}", "") > 5.0:
                    self._forget(run_id, f"release:{entity.index}")
                    self._release(run, entity.index)
            elif state in (State.QUEUED, State.RUNNING) and counters.queued:
                self._look_for_workers(run, entity)
                self._look_at_queued(
                    run, entity, f"{counters.queued}:{counters.running}:{counters.completed}:{counters.failed}"
                )

    def _release(self, run: RunRecord, entity: int) -> None:
        """Releases an entity, unless it waits for another."""
        if self._store.release(run.run_id, entity):
            logger.warning("Entity %d of %s is released: who was to do it is gone", entity, run.run_id)
            self._store.add_queues(messages.run_queues(run))
            publish_members(self._store, self._publisher, run, entity)

    def _look_at_setup(self, run: RunRecord) -> None:
        token, beat = self._store.setup_state(run.run_id)
        stands = self._stands(run.run_id, "setup", beat)
        if token and stands > self._lease:
            self._store.call(run.run_id, "setup_lost", beat)
        if (not token or stands > self._lease) and stands > 5.0:
            self._publisher.publish([messages.setup_message(run)])
            self._forget(run.run_id, "setup")

    def _look_at_leases(self, run: RunRecord) -> None:
        lost: dict[int, str] = {}
        leases = self._store.leases(run.run_id)
        for known, what in list(self._seen):
            if known == run.run_id and what.startswith("lease:") and int(what.partition(":")[2]) not in leases:
                self._forget(known, what)
        for index, counter in leases.items():
            if self._stands(run.run_id, f"lease:{index}", counter) > self._lease:
                lost[index] = counter
        held = self._store.held(run.run_id, lost)
        lose(self._store, self._publisher, run, held, "its lease was lost: its worker has not been heard of")

    def _look_at_queued(self, run: RunRecord, entity: EntityRecord, progress: str) -> None:
        """Publishes members again that are queued in the record and in no queue, when nothing of the entity moves."""
        if self._stands(run.run_id, f"queued:{entity.index}", progress) < min(_MISSING_FOR, self._lease / 4):
            return
        self._forget(run.run_id, f"queued:{entity.index}")
        present: set[str] = set()
        for queue in messages.run_queues(run):
            waiting = self._publisher.waiting(queue.name)
            if waiting is None:
                if self._publisher.length(queue.name):
                    return
                continue
            present.update(waiting)
        delayed = self._store.delayed(run.run_id)
        present_indexes = {parsed[1] for parsed in map(messages.parse_task_id, present) if parsed is not None}
        missing = [
            index
            for index in self._store.queued(run.run_id, entity.first, entity.size)
            if index not in present_indexes and index not in delayed
        ]
        if missing:
            logger.warning(
                "%d members of %s are published again: their messages are gone",
                len(missing),
                run.run_id,
                extra={"run": run.run_id},
            )
            self._store.add_queues(messages.run_queues(run))
            self._publish(run, missing)

    def _look_for_workers(self, run: RunRecord, entity: EntityRecord) -> None:
        """Says once, and in the end gives up, what no registered worker could ever run."""
        templates = self._store.templates_of(run.run_id, entity.index)
        missing = {number: lacks_of(run, entity, [number], self._workers) for number in templates}
        lacking = next((text for text in missing.values() if text), "")
        key = (run.run_id, entity.index)
        if self._told.get(key, "") != lacking:
            self._told[key] = lacking
            if lacking:
                logger.warning("%s of %s waits for %s", entity.name, run.run_id, lacking, extra={"run": run.run_id})
        stands = self._stands(run.run_id, f"workers:{entity.index}", str(bool(lacking)))
        if not lacking or not run.wait_for_worker or stands < run.wait_for_worker:
            return
        self._forget(run.run_id, f"workers:{entity.index}")
        heads = self._store.member_heads(run.run_id, entity.first, entity.first + entity.size)
        # A batch job brings its own workers, and may wait in its scheduler's queue for days.
        indexes = [
            index for index, template, _ in heads if missing[template] and not run.templates[template].batch_queue
        ]
        reason = f"no worker could run it for {run.wait_for_worker:g} s: it waited for {lacking}"
        if indexes and self._store.give_up(run, entity, indexes, reason):
            self._publisher.publish([messages.completion_message(run, entity.index)])

    def _look_at_gangs(self) -> None:
        """The entity whose turn it is gets slots one by one; when it gets no further, it makes room."""
        gangs = self._store.gangs()
        active = set(self._store.active_runs()) if gangs else set()
        for run_id, index in gangs:
            if run_id not in active:
                self._store.leave_gangs(run_id, index)
        if not gangs or gangs[0][0] not in active:
            return
        run_id, index = gangs[0]
        with suppress(RunNotFoundError, RecordSchemaError):
            run = self._store.run(run_id)
            armed = self._store.armed(run_id, index)
            templates = self._store.templates_of(run_id, index)
            if lacks_of(run, run.entities[index], templates, self._workers):
                self._store.yield_gang(run_id, index, 5.0)
            elif armed and self._stands(run_id, f"armed:{index}", str(armed)) > _GANG_PATIENCE:
                self._forget(run_id, f"armed:{index}")
                self._store.yield_gang(run_id, index, _GANG_PAUSE)

    def _bury_workers(self) -> None:
        """Workers of this machine whose process is gone lose their attempts; others are forgotten after a lease."""
        for worker in self._store.workers():
            gone = worker.host == self._worker.host and worker.boot == self._worker.boot and not is_alive(worker)
            prefix = process.token_prefix(worker)
            if gone and ends.is_guarded(prefix) and self._stands("", f"burial:{worker.name}", "") < _BURIAL:
                continue
            if gone:
                process.end_trees(carried_tokens(prefix) | held_tokens(self._store, prefix))
                lose_worker(self._store, self._publisher, prefix, "its worker died")
                ends.drop(prefix)
                self._forget("", f"burial:{worker.name}")
            if gone or self._stands("", f"worker:{worker.name}", str(worker.beat)) > self._lease:
                self._store.drop_worker(worker.name)

    def _drop_strays(self) -> None:
        """Deletes queues that hold messages and are nobody's: what was published when its run had just ended. Looks at a part
        of the broker's keys each time."""
        self._cursor, names = self._publisher.some_queues(self._cursor)
        if not names:
            return
        known, now = {queue.name for queue in self._store.queues()}, time.monotonic()
        gone = [name for name in names - known if now - self._strays.setdefault(name, now) > _STRAY_FOR]
        self._publisher.delete_queues(gone)
        for name in [*gone, *(names & known)]:
            self._strays.pop(name, None)

    def _publish(self, run: RunRecord, indexes: list[int]) -> None:
        publish_again(self._store, self._publisher, run, indexes)

    def _stands(self, run_id: str, what: str, value: str) -> float:
        """Seconds for which a value has been the same, as far as this observer knows."""
        now = time.monotonic()
        known = self._seen.get((run_id, what))
        if known is None or known[0] != value:
            self._seen[run_id, what] = (value, now)
            return 0.0
        return now - known[1]

    def _forget(self, run_id: str, what: str) -> None:
        self._seen.pop((run_id, what), None)

    def _holds_lock(self) -> bool:
        return self._store.take_lock(REAPER_LOCK, process.token_prefix(self._worker), 5.0)

    def _release_lock(self) -> None:
        self._store.drop_lock(REAPER_LOCK, process.token_prefix(self._worker))


def publish_again(store: Store, publisher: messages.Publisher, run: RunRecord, indexes: list[int]) -> None:
    """Publishes members of a run as their next attempt."""
    if not indexes:
        return
    attempts = {record.index: record.attempt for record in store.attempts(run.run_id, indexes)}
    by_entity = sorted(run.entities, key=lambda entity: entity.first)
    for index in indexes:
        entity = next(entity for entity in by_entity if entity.first <= index < entity.first + entity.size)
        for number, template, name in store.member_heads(run.run_id, index, index + 1):
            message = messages.member_message(
                run, number, entity.index, template, name=name, attempt=attempts[index] + 1
            )
            queue = messages.member_queue(run.run_id, run.templates[template], together=entity.together)
            publisher.publish_raw(queue, [json.dumps(message)])


def lose(store: Store, publisher: messages.Publisher, run: RunRecord, lost: list[Held], reason: str) -> None:
    """Takes attempts back, but for those whose program had ended, as their guard has noted: these are recorded. Publishes
    what the store wants published."""
    if not lost:
        return
    entity_of = {h.member: e.index for e in run.entities for h in lost if e.first <= h.member < e.first + e.size}
    # Without a shared file system nobody has sent back what they left: it counts for nothing.
    noted = {} if run.transfer is not None else _noted(store, run, lost)
    answers = {held.member: ends.record(store, run, held, noted[held.member]) for held in lost if held.member in noted}
    if answers:
        logger.warning(
            "%d members of %s had ended, which their worker could not record",
            len(answers),
            run.run_id,
            extra={"run": run.run_id},
        )
    gone = [held for held in lost if held.member not in noted]
    words = store.lose(run.run_id, [(held.member, entity_of[held.member], held.counter, reason) for held in gone])
    answers.update(zip((held.member for held in gone), words, strict=True))
    again = [index for index, answer in answers.items() if answer == "retry"]
    if again:
        logger.warning("%d members of %s run again: %s", len(again), run.run_id, reason, extra={"run": run.run_id})
    publish_again(store, publisher, run, again)
    ended = {entity_of[index] for index, answer in answers.items() if answer == "zero"}
    publisher.publish(messages.completion_message(run, entity) for entity in ended)


def _noted(store: Store, run: RunRecord, lost: list[Held]) -> dict[int, Ended]:
    """Ends of lost attempts that count, by member."""
    notes = ends.Notes()
    noted = {}
    for held in lost:
        report = notes.find(held.token)
        if report is None:
            continue
        ((_, number, _),) = store.member_heads(run.run_id, held.member, held.member + 1)
        template = run.templates[number]
        if ends.counts(report, scheduled=bool(template.batch_queue or template.command.launcher)):
            noted[held.member] = report
    return noted


def lose_worker(store: Store, publisher: messages.Publisher, token_prefix: str, reason: str) -> None:
    """Takes back all attempts of a worker process that is known to be dead, with nothing of theirs alive."""
    for run_id in store.active_runs():
        with suppress(RunNotFoundError, RecordSchemaError):
            lose(store, publisher, store.run(run_id), store.held_by(run_id, token_prefix), reason)


def held_tokens(store: Store, prefix: str) -> set[str]:
    """Tokens with this prefix of attempts that run, as the store has it."""
    tokens: set[str] = set()
    for run_id in store.active_runs():
        with suppress(RunNotFoundError, RecordSchemaError):
            tokens.update(held.token for held in store.held_by(run_id, prefix))
    return tokens


def boot_id() -> str:
    """What tells this boot of this machine from others, and the processes that can be seen here from those of a container that
    shares the machine and its name."""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {namespace}"
    return ""


def is_alive(worker: WorkerRecord) -> bool:
    """Whether the process of a worker of this machine still runs."""
    return start_time(worker.pid) == worker.pid_start


def carried_tokens(prefix: str) -> set[str]:
    """Tokens with this prefix that processes of this machine carry in their environment."""
    start = f"TASKENSEMBLE_ATTEMPT_ID={prefix}".encode()
    tokens = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                for entry in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    if entry.startswith(start):
                        tokens.add(entry.partition(b"=")[2].decode())
    return tokens
