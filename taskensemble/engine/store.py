"""The record store: runs, claims, leases and events in Redis or Valkey.

Everything that must not be torn apart happens in `store.lua`, whose head documents the keys. This class wraps it: one method an
operation, records in and records out (`replies.py` reads what comes out). All operations can be repeated, so a connection that
breaks is opened again and the operation repeated for as long as `patience` says.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from taskensemble.engine import signing, urls
from taskensemble.engine.fit import lacks_of
from taskensemble.engine.records import (
    SCHEMA,
    AttemptRecord,
    Counters,
    DatabaseAddressRecord,
    EntityRecord,
    EventRecord,
    MemberRecord,
    OutputsRecord,
    QueueRecord,
    RunRecord,
    RunStatus,
    State,
    WorkerRecord,
)
from taskensemble.engine.replies import (
    STATES,
    Claim,
    EntityStatus,
    Held,
    read_attempt,
    read_claims,
    read_event,
    read_outputs,
    read_run,
    readable,
    state_of,
    text_of,
)
from taskensemble.errors import ControlPlaneError, EntityExistsError, RunNotFoundError

SCRIPT = files("taskensemble.engine").joinpath("store.lua").read_text(encoding="utf-8")
CONTROL_CHANNEL = "te:control"
REAPER_LOCK = "te:reaper"
OLDEST_SERVER = 7
"""Major version of Redis."""
_BATCH = 2000
_CONNECTIONS = 10_000
"""Most threads of a process that ask at once; the client's own limit is 100, and an error."""
_UNOPENED = 3600
"""Seconds that members, assets and secrets live whose run is not opened: its driver has died, or the store refused it."""


def run_key(run_id: str) -> str:
    """Key of a run's hash; the other keys of the run begin with it less its last three letters."""
    return f"te:{{{run_id}}}:run"


def reserved_key(job_id: str) -> str:
    """Key of the set of an allocation's nodes that members are kept off."""
    return f"te:reserved:{job_id}"


def _number(value: Any) -> float | None:
    return None if value in (None, b"", "") else float(value)


class Store:
    """The record store of a control plane.

    Arguments:
        url: `redis://[user:password@]host:port/db`, `rediss://…`, `valkey://…`, `unix:///path`.
        patience: seconds for which an operation is repeated while the store cannot be reached.
    """

    def __init__(self, url: str, *, patience: float = 30.0) -> None:
        self.url = urls.redis_url(url)
        retries = max(1, int(patience))
        self._redis: redis.Redis = redis.Redis.from_url(
            self.url,
            protocol=2,
            retry=Retry(ExponentialBackoff(cap=1.0, base=0.02), retries + 6),
            retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError],
            socket_timeout=max(10.0, patience),
            socket_connect_timeout=5.0,
            health_check_interval=30,
            max_connections=_CONNECTIONS,
        )
        self._script = self._redis.register_script(SCRIPT)
        self._runs: dict[str, RunRecord] = {}

    @classmethod
    def connect(cls, url: str, *, patience: float = 30.0) -> Store:
        """Opens a store and checks that it answers.

        Raises:
            ControlPlaneError: nothing answers there, it refuses the password, or the server is too old.
        """
        store = cls(url, patience=patience)
        store.ping()
        store._check_version()
        return store

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def ping(self) -> None:
        """Checks that the store answers.

        Raises:
            ControlPlaneError: it does not.
        """
        try:
            self._redis.ping()
        except redis.RedisError as error:
            message = f"The record store {urls.without_password(self.url)} cannot be used: {error}. "
            if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER_FAILURE" in str(error):
                message += "No TLS there: the embedded server has none; use redis:// for it. "
            message += "Check broker= or "
            raise ControlPlaneError(message + "TASKENSEMBLE_BROKER_URL and TASKENSEMBLE_STORE_URL.") from error

    def _check_version(self) -> None:
        # Workers fetch several messages at a time with BLMPOP, which came with Redis 7.0; Valkey calls itself 7.2 or newer.
        with suppress(redis.exceptions.NoPermissionError):  # a user of few rights may not ask; the driver's may
            version = str(self._redis.info("server")["redis_version"])
            if int(version.split(".", maxsplit=1)[0]) < OLDEST_SERVER:
                message = f"The server {urls.without_password(self.url)} is Redis {version}: the control plane needs "
                raise ControlPlaneError(message + f"Redis {OLDEST_SERVER} or newer, or Valkey")

    def call(self, run_id: str, operation: str, *arguments: Any) -> Any:
        """One operation of store.lua on one run."""
        return self._script(keys=[run_key(run_id)], args=[operation, *arguments])

    # Runs: writing and reading

    def write_run(
        self,
        run: RunRecord,
        members: Iterable[MemberRecord],
        assets: Mapping[str, bytes] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """Writes a run and its members, in bulk; nothing of it runs before `publish_setup`. With a signing key they are signed.

        Arguments:
            assets: bytes of ML assets by their digest, for those without a path.
            secrets: `<template>:<variable>` -> value, of the templates' secrets.

        Raises:
            EntityExistsError: there is a run of this id.
            InputError: the file of signing keys cannot be used.
            ControlPlaneError: the server refuses to write.
        """
        try:
            self._write_run(run, members, assets or {}, secrets or {})
        except redis.ResponseError as error:
            what = f"The run cannot be written to the record store {urls.without_password(self.url)}: {error}. "
            if any(word in str(error) for word in ("MISCONF", "maxmemory", "OOM")):
                what += "Its disk or its memory is full: make room, then start the run again."
            raise ControlPlaneError(what.rstrip()) from error

    def _write_run(
        self,
        run: RunRecord,
        members: Iterable[MemberRecord],
        assets: Mapping[str, bytes],
        secrets: Mapping[str, str],
    ) -> None:
        keys = signing.from_environment()
        key = run_key(run.run_id)
        templates: dict[int, set[int]] = {entity.index: set() for entity in run.entities}
        prefix = key[:-3]
        if self._redis.exists(key):
            raise EntityExistsError(f"run_id={run.run_id!r} exists already; give the run another id")
        pipe = self._redis.pipeline(transaction=False)
        pipe.delete(prefix + "members", prefix + "secrets")
        if secrets:
            pipe.hset(prefix + "secrets", items=[part for pair in secrets.items() for part in pair])
            pipe.expire(prefix + "secrets", _UNOPENED)
        stream = iter(members)
        while batch := list(itertools.islice(stream, _BATCH)):
            items: list[Any] = []
            for member in batch:
                templates[member.entity].add(member.template)
                text = member.model_dump_json(exclude_defaults=True, exclude={"signature"})
                items += (member.index, text if keys is None else keys.seal(signing.MEMBER, run.run_id, text))
            pipe.hset(prefix + "members", items=items)
            pipe.expire(prefix + "members", _UNOPENED)
            pipe.execute()
        for digest, content in assets.items():
            self._redis.set(f"{prefix}asset:{digest}", content, ex=_UNOPENED)
        dependents: dict[int, list[int]] = {entity.index: [] for entity in run.entities}
        for entity in run.entities:
            for earlier in entity.after:
                dependents[earlier].append(entity.index)
        record = run.model_dump_json(by_alias=True, exclude_defaults=True, exclude={"signature"})
        arguments: list[Any] = [
            record if keys is None else keys.seal(signing.RUN, run.run_id, record),
            SCHEMA,
            run.experiment,
            run.created,
            run.keep,
            json.dumps(list(assets)),
            run.size,
        ]
        for entity in run.entities:
            arguments += (
                entity.name,
                entity.first,
                entity.size,
                _stop_after(entity.on_failure),
                entity.enough or 0,
                int(entity.together),
                len(set(entity.after)),
                json.dumps(dependents[entity.index]),
                json.dumps(sorted(templates[entity.index])),
            )
        if not self.call(run.run_id, "open", *arguments):
            raise EntityExistsError(f"run_id={run.run_id!r} exists already; give the run another id")

    def run(self, run_id: str) -> RunRecord:
        """The record of a run.

        Raises:
            RunNotFoundError: there is none.
            RecordSchemaError: another version of taskensemble wrote it.
        """
        known = self._runs.get(run_id)
        if known is not None:
            return known
        text, schema = self._redis.hmget(run_key(run_id), ["record", "schema"])
        if text is None:
            raise RunNotFoundError(
                f"There is no run {run_id!r} in {urls.without_password(self.url)}; `status` lists those it has"
            )
        run = read_run(text, schema)
        if len(self._runs) > 64:
            self._runs.clear()
        self._runs[run_id] = run
        return run

    def trusted_run(self, run_id: str) -> RunRecord:
        """The record of a run that this process is going to act on: where it has signing keys, one that is signed.

        Raises:
            RunNotFoundError, RecordSchemaError: as `run`.
            SignatureError: it is not signed, or was changed.
            InputError: the file of signing keys cannot be used.
        """
        keys = signing.from_environment()
        if keys is None:
            return self.run(run_id)
        text, schema = self._redis.hmget(run_key(run_id), ["record", "schema"])
        if text is None:
            return self.run(run_id)
        return read_run(keys.unseal(signing.RUN, run_id, text), schema)

    def members(self, run_id: str, start: int = 0, stop: int | None = None) -> list[MemberRecord]:
        """Members `start` to `stop` (excluded) of a run."""
        return self.members_at(run_id, range(start, self.run(run_id).size if stop is None else stop))

    def members_at(self, run_id: str, indexes: Sequence[int]) -> list[MemberRecord]:
        """Some members of a run."""
        records: list[MemberRecord] = []
        for first in range(0, len(indexes), _BATCH):
            fields = [str(index) for index in indexes[first : first + _BATCH]]
            texts = self._redis.hmget(run_key(run_id)[:-3] + "members", fields)
            records.extend(MemberRecord.model_validate_json(text) for text in texts if text is not None)
        return records

    def member_heads(self, run_id: str, start: int, stop: int) -> Iterator[tuple[int, int, str]]:
        """Index, template and name of members `start` to `stop`: what their messages need, read without validation."""
        texts = self._redis.hmget(run_key(run_id)[:-3] + "members", [str(index) for index in range(start, stop)])
        for text in texts:
            if text is not None:
                fields = json.loads(text)
                yield fields["index"], fields["template"], fields["name"]

    def held_by(self, run_id: str, token_prefix: str) -> list[Held]:
        """The running attempts whose token begins so."""
        return [held for held in self.held(run_id, self.leases(run_id)) if held.token.startswith(token_prefix)]

    def held(self, run_id: str, leases: Mapping[int, str]) -> list[Held]:
        """Who holds these members, given with their lease counters."""
        if not leases:
            return []
        texts = self._redis.hmget(run_key(run_id)[:-3] + "attempts", [str(index) for index in leases])
        found = []
        for (index, counter), text in zip(leases.items(), texts, strict=True):
            known = json.loads(text or "{}")
            if known.get("t"):
                found.append(Held(index, counter, known["t"], known.get("a", 0), known.get("f", 0)))
        return found

    def finish(
        self,
        run_id: str,
        index: int,
        entity: int,
        token: str,
        letter: str,
        code: str,
        reason: str,
        ran: str,
        delay: str,
    ) -> str:
        """Records how an attempt ended, in the words of store.lua's `finish`; its answer."""
        return text_of(self.call(run_id, "finish", index, entity, token, letter, code, reason, ran, delay, 0, "")[0])

    def secrets(self, run_id: str) -> dict[str, str]:
        """Values of the environment variables that no record shows: `<template>:<variable>` -> value."""
        found = self._redis.hgetall(run_key(run_id)[:-3] + "secrets")
        return {text_of(name): text_of(value) for name, value in found.items()}

    def asset(self, run_id: str, digest: str) -> bytes | None:
        """Bytes of an ML asset of a run; None when the store does not have them."""
        return cast("bytes | None", self._redis.get(f"{run_key(run_id)[:-3]}asset:{digest}"))

    # Files of members where hosts share no file system

    def put_content(self, run_id: str, name: str, data: bytes, keep: float) -> None:
        """Keeps the bytes of transferred files under a name, for `keep` seconds at most."""
        self._redis.set(f"{run_key(run_id)[:-3]}content:{name}", data, px=round(keep * 1000))

    def content(self, run_id: str, name: str) -> bytes | None:
        """The bytes that were put under the name."""
        return cast("bytes | None", self._redis.get(f"{run_key(run_id)[:-3]}content:{name}"))

    def drop_content(self, run_id: str, name: str) -> None:
        """Deletes the bytes under the name."""
        self._redis.unlink(f"{run_key(run_id)[:-3]}content:{name}")

    def put_outputs(self, run_id: str, index: int, outputs: OutputsRecord, keep: float) -> None:
        """Says what an attempt of a member has sent, unless a later attempt has already. With a signing key it is signed."""
        try:
            known = self.outputs(run_id, index).get(index)
        except signing.SignatureError:
            known = None  # nobody would take it
        if known is None or known.attempt <= outputs.attempt:
            key = f"{run_key(run_id)[:-3]}outputs"
            keys = signing.from_environment()
            text = outputs.model_dump_json(exclude_defaults=True, exclude={"signature"})
            self._redis.hset(key, str(index), text if keys is None else keys.seal(signing.OUTPUTS, run_id, text))
            self._redis.pexpire(key, round(keep * 1000))

    def outputs(self, run_id: str, index: int | None = None) -> dict[int, OutputsRecord]:
        """What members have sent that nobody has collected, by index; of one member, if its index is given.

        Raises:
            SignatureError: this process has signing keys, and one is not signed with them, or is another member's.
        """
        key = f"{run_key(run_id)[:-3]}outputs"
        if index is None:
            found = dict(self._redis.hscan_iter(key, count=_BATCH))
        else:
            text = self._redis.hget(key, str(index))
            found = {} if text is None else {index: text}
        return {int(number): read_outputs(run_id, int(number), text) for number, text in sorted(found.items())}

    def drop_outputs(self, run_id: str, index: int) -> None:
        """Forgets what a member has sent: it was collected."""
        self._redis.hdel(f"{run_key(run_id)[:-3]}outputs", str(index))

    def status(self, run_id: str) -> RunStatus:
        """A run as its counters tell it.

        Raises:
            RunNotFoundError: there is none.
        """
        names = ["state", "reason", "size", "queued", "running", "completed", "failed", "cancelled"]
        names += ["created", "started", "ended", "experiment"]
        values = dict(zip(names, self._redis.hmget(run_key(run_id), names), strict=True))
        if values["state"] is None:
            raise RunNotFoundError(
                f"There is no run {run_id!r} in {urls.without_password(self.url)}; `status` lists those it has"
            )
        counts = {name: int(values[name] or 0) for name in names[2:8]}
        return RunStatus(
            run_id=run_id,
            experiment=text_of(values["experiment"]),
            state=state_of(text_of(values["state"])),
            reason=text_of(values["reason"]),
            created=float(values["created"] or 0),
            started=_number(values["started"]),
            ended=_number(values["ended"]),
            **counts,
        )

    def entity_status(self, run_id: str) -> list[EntityStatus]:
        """Each entity of a run with its counters and state."""
        run = self.run(run_id)
        prefix = run_key(run_id)[:-3]
        pipe = self._redis.pipeline(transaction=False)
        names = ["state", "reason", "queued", "running", "completed", "failed", "cancelled", "started", "ended"]
        for entity in run.entities:
            pipe.hmget(f"{prefix}e{entity.index}", names)
        result: list[EntityStatus] = []
        for entity, row in zip(run.entities, pipe.execute(), strict=True):
            values = dict(zip(names, row, strict=True))
            counters = Counters(
                queued=int(values["queued"] or 0),
                running=int(values["running"] or 0),
                completed=int(values["completed"] or 0),
                failed=int(values["failed"] or 0),
                cancelled=int(values["cancelled"] or 0),
                reason=text_of(values["reason"]),
                started=_number(values["started"]),
                ended=_number(values["ended"]),
            )
            result.append(EntityStatus(entity, counters, state_of(text_of(values["state"]) or "n")))
        return result

    def waits(self, run_id: str) -> dict[int, str]:
        """What entities of a run wait for, by their index; those of which members run are there only if some never could."""
        run, status = self.run(run_id), self.status(run_id)
        prefix = run_key(run_id)[:-3]
        pipe = self._redis.pipeline(transaction=False)
        for entity in run.entities:
            pipe.hmget(f"{prefix}e{entity.index}", ["state", "queued", "running", "armed", "templates"])
        rows = pipe.execute()
        workers = self.workers()
        found: dict[int, str] = {}
        for entity, (letter, queued, running, armed, templates) in zip(run.entities, rows, strict=True):
            waiting = int(queued or 0)
            if status.state.final or state_of(text_of(letter) or "n").final or not waiting:
                continue
            if status.state is State.NEW:
                found[entity.index] = _setup_waits(self.setup_state(run_id)[0], workers)
            elif text_of(letter) == "n":
                found[entity.index] = "waits for " + ", ".join(run.entities[index].name for index in entity.after)
            elif lacking := lacks_of(run, entity, json.loads(templates or "[]"), workers):
                found[entity.index] = f"waits for {lacking}"
            elif entity.together and not int(running or 0):
                found[entity.index] = (
                    f"waits for room for all its members at once; {int(armed or 0)} of {waiting} have it"
                )
            elif not int(running or 0):
                delayed = self._redis.zcount(prefix + "delayed", "-inf", "+inf")
                found[entity.index] = (
                    "waits until its retries are due" if delayed >= waiting else "waits for a free slot"
                )
        return found

    def templates_of(self, run_id: str, entity: int) -> list[int]:
        """The templates of an entity's members."""
        text = self._redis.hget(f"{run_key(run_id)[:-3]}e{entity}", "templates")
        return cast("list[int]", json.loads(text or "[]"))

    def states(self, run_id: str) -> list[State]:
        """The state of every member of a run: one small answer, whatever its size."""
        letters = cast(bytes, self._redis.get(run_key(run_id)[:-3] + "state") or b"")
        return [STATES[letter] for letter in letters.decode()]

    def attempts(self, run_id: str, indexes: Sequence[int] | None = None) -> list[AttemptRecord]:
        """State and latest attempt of some members, or of all."""
        prefix = run_key(run_id)[:-3]
        letters = cast(bytes, self._redis.get(prefix + "state") or b"").decode()
        if indexes is None:
            found = {int(index): text for index, text in self._redis.hscan_iter(prefix + "attempts", count=_BATCH)}
            return [read_attempt(index, letter, found.get(index)) for index, letter in enumerate(letters)]
        records: list[AttemptRecord] = []
        for start in range(0, len(indexes), _BATCH):
            part = indexes[start : start + _BATCH]
            texts = self._redis.hmget(prefix + "attempts", [str(index) for index in part])
            records.extend(read_attempt(index, letters[index], text) for index, text in zip(part, texts, strict=True))
        return records

    def runs(self, experiment: str | None = None) -> list[str]:
        """Ids of the runs that the store has, the oldest first."""
        key = "te:runs" if experiment is None else f"te:experiment:{experiment}"
        ids = [text_of(run_id) for run_id in self._redis.zrange(key, 0, -1)]
        pipe = self._redis.pipeline(transaction=False)
        for run_id in ids:
            pipe.exists(run_key(run_id))
        alive = dict(zip(ids, pipe.execute() if ids else (), strict=True))
        expired = [run_id for run_id in ids if not alive[run_id]]
        if expired:
            self._redis.zrem(key, *expired)
        return [run_id for run_id in ids if alive[run_id]]

    def active_runs(self) -> list[str]:
        """Ids of the runs that have not ended."""
        return [text_of(run_id) for run_id in self._redis.zrange("te:active", 0, -1)]

    def retire(self, run_id: str) -> None:
        """Takes an ended run off the list of active ones."""
        self._redis.zrem("te:active", run_id)

    # Runs: changing

    def cancel(self, run_id: str, entity: int | None = None, reason: str = "stopped") -> None:
        """Cancels a run, or one entity of it: what waits never starts, what runs is told to end. It does not wait.

        Raises:
            RunNotFoundError: there is no such run.
        """
        answer = self.call(run_id, "cancel", "" if entity is None else entity, reason or "stopped")
        if answer == -1:
            raise RunNotFoundError(
                f"There is no run {run_id!r} in {urls.without_password(self.url)}; `status` lists those it has"
            )

    def stop_members(self, run: RunRecord, indexes: Sequence[int], reason: str = "stopped") -> list[str]:
        """Cancels single members of a run; the others go on. It does not wait.

        Returns:
            For each `ok` (it had not begun), `told` (it runs, and its worker ends it) or `done` (it had ended).
        """
        flat: list[int] = []
        for index in indexes:
            flat += (index, entity_of(run, index).index)
        return [text_of(answer) for answer in self.call(run.run_id, "stop", reason or "stopped", *flat)]

    def give_up(self, run: RunRecord, entity: EntityRecord, indexes: Sequence[int], reason: str) -> bool:
        """Fails members that have not begun, since no worker can run them; True: publish the entity's completion."""
        ended = False
        for start in range(0, len(indexes), _BATCH):
            flat = [part for index in indexes[start : start + _BATCH] for part in (index, entity.index)]
            ended |= bool(self.call(run.run_id, "give_up", reason, *flat))
        return ended

    def gangs(self) -> list[tuple[str, int]]:
        """Run and index of the entities that wait for slots for all their members at once, the one that takes them first."""
        names = [text_of(name).rpartition(" ") for name in self._redis.zrange("te:gangs", 0, -1)]
        return [(run_id, int(entity)) for run_id, _, entity in names]

    def armed(self, run_id: str, entity: int) -> int:
        """How many members of an entity hold a slot and wait for the others."""
        return int(cast(Any, self._redis.hget(f"{run_key(run_id)[:-3]}e{entity}", "armed")) or 0)

    def yield_gang(self, run_id: str, entity: int, seconds: float) -> None:
        """Makes an entity give the slots back that its members hold, and take none for so many seconds."""
        self.call(run_id, "yield", entity, seconds)

    def leave_gangs(self, run_id: str, entity: int) -> None:
        """Takes an entity off the list of those that wait for slots for all their members."""
        self.call(run_id, "leave", entity)

    def watch(self, run_id: str, after: str = "0", timeout: float | None = None) -> Iterator[EventRecord]:
        """Events of a run as they happen, from the one after `after` on; ends after the run's final event, or when nothing
        has happened for `timeout` seconds. It outlives a restart of the store.

        Arguments:
            after: id of the last event that is known; `0`: from the start, `$`: only new ones.
        """
        key = run_key(run_id)[:-3] + "events"
        last = after
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            block = 5.0 if deadline is None else min(5.0, deadline - time.monotonic())
            if block <= 0:
                return
            answer: Any = self._redis.xread({key: last}, count=1000, block=max(1, int(block * 1000)))
            if not answer:
                if not self._redis.exists(run_key(run_id)):
                    return
                continue
            for identifier, fields in answer[0][1]:
                event = read_event(text_of(identifier), fields)
                last = event.id
                yield event
                if event.kind == "run" and event.state is not None and event.state.final:
                    return
            if timeout is not None:
                deadline = time.monotonic() + timeout

    def events(self, run_id: str, after: str, count: int) -> list[EventRecord]:
        """At most `count` events of a run that came after `after`, without waiting."""
        found: Any = self._redis.xrange(run_key(run_id)[:-3] + "events", min=f"({after}", count=count)
        return [read_event(text_of(identifier), fields) for identifier, fields in found]

    def wait_final(self, run_id: str, timeout: float | None = None) -> RunStatus:
        """Waits until the run has ended, or for `timeout` seconds, and tells how it stands then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        last = "0"
        newest = self._redis.xrevrange(run_key(run_id)[:-3] + "events", count=1)
        if newest:
            last = text_of(newest[0][0])
        status = self.status(run_id)
        while not status.state.final:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            for event in self.watch(run_id, last, 5.0 if left is None else min(left, 5.0)):
                last = event.id
            status = self.status(run_id)
        return status

    # Databases

    def set_database(self, experiment: str, address: DatabaseAddressRecord) -> None:
        """Says where a running database of an experiment answers."""
        self._redis.hset(f"te:databases:{experiment}", address.identifier, address.model_dump_json())

    def databases(self, experiment: str) -> dict[str, DatabaseAddressRecord]:
        """The running databases of an experiment, by identifier."""
        found = self._redis.hgetall(f"te:databases:{experiment}")
        return {text_of(name): DatabaseAddressRecord.model_validate_json(text) for name, text in found.items()}

    def all_databases(self) -> list[tuple[str, DatabaseAddressRecord]]:
        """The databases of all experiments, each with the experiment's path."""
        stem = "te:databases:"
        experiments = sorted(
            text_of(key).removeprefix(stem) for key in self._redis.scan_iter(match=f"{stem}*", count=1000)
        )
        return [(experiment, record) for experiment in experiments for record in self.databases(experiment).values()]

    def drop_database(self, experiment: str, identifier: str) -> None:
        """Forgets a database that has stopped."""
        self._redis.hdel(f"te:databases:{experiment}", identifier)

    def reserve_nodes(self, job_id: str, nodes: Iterable[str]) -> None:
        """Keeps members off these nodes of an allocation, and off no others of it; tells the workers."""
        key, names = reserved_key(job_id), list(nodes)
        pipe = self._redis.pipeline()
        pipe.delete(key)
        if names:
            pipe.sadd(key, *names)
            pipe.expire(key, 30 * 86400)
        pipe.publish(CONTROL_CHANNEL, json.dumps({"order": "queues"}))
        pipe.execute()

    # Queues and workers

    def add_queues(self, queues: Iterable[QueueRecord]) -> None:
        """Announces the queues of a run to all workers."""
        records = list(queues)
        pipe = self._redis.pipeline(transaction=False)
        for queue in records:
            pipe.hset("te:queues", queue.name, queue.model_dump_json(exclude_defaults=True))
        pipe.publish(CONTROL_CHANNEL, json.dumps({"order": "queues"}))
        pipe.execute()

    def queues(self) -> list[QueueRecord]:
        """The queues of all active runs."""
        return readable(QueueRecord, self._redis.hvals("te:queues"))

    def drop_queues(self, names: Iterable[str]) -> None:
        """Takes queues off the list, and tells the workers."""
        gone = list(names)
        if not gone:
            return
        pipe = self._redis.pipeline(transaction=False)
        pipe.hdel("te:queues", *gone)
        pipe.publish(CONTROL_CHANNEL, json.dumps({"order": "queues"}))
        pipe.execute()

    def beat(self, worker: WorkerRecord) -> None:
        """Registers a worker, and again with each of its beats."""
        seconds, micros = self._redis.time()
        stamped = worker.model_copy(update={"seen": seconds + micros / 1e6})
        self._redis.hset("te:workers", worker.name, stamped.model_dump_json(exclude_defaults=True))

    def drop_worker(self, name: str) -> None:
        """Forgets a worker that has ended."""
        self._redis.hdel("te:workers", name)

    def workers(self) -> list[WorkerRecord]:
        """The registered workers; `age` says how long ago each was seen."""
        seconds, micros = self._redis.time()
        now = seconds + micros / 1e6
        found = readable(WorkerRecord, self._redis.hvals("te:workers"))
        aged = (worker.model_copy(update={"age": max(0.0, now - worker.seen)}) for worker in found)
        return sorted(aged, key=lambda worker: worker.name)

    def order(self, **fields: Any) -> None:
        """Sends an order to all workers over the control channel."""
        self._redis.publish(CONTROL_CHANNEL, json.dumps(fields))

    # What setup, completion and the reaper do

    def begin_setup(self, run_id: str, token: str) -> str:
        """Takes the setup of a run: `go`, `taken`, `done` or `gone`."""
        return text_of(self.call(run_id, "setup", token)[0])

    def beat_setup(self, run_id: str, token: str) -> bool:
        """Keeps the setup's lease moving; False: somebody else has it, or the run was stopped."""
        return bool(self.call(run_id, "setup_beat", token))

    def fail_run(self, run_id: str, reason: str) -> None:
        """Fails a run before any of its members has started."""
        self.call(run_id, "fail", reason)

    def ready(self, run_id: str, token: str) -> bool:
        """The assets are in place: the run is running. False: the run was stopped meanwhile."""
        return bool(self.call(run_id, "ready", token))

    def release(self, run_id: str, entity: int) -> bool:
        """Queues an entity's members in the record; True: publish them now."""
        return bool(self.call(run_id, "release", entity))

    def claim(self, run_id: str, worker: str, node: str, members: Sequence[tuple[int, int, str]]) -> list[Claim]:
        """Claims attempts of (index, entity, token) for a worker."""
        flat = [part for member in members for part in member]
        return read_claims(self.call(run_id, "claim", SCHEMA, worker, node, *flat))

    def complete(self, run_id: str, entity: int) -> list[int]:
        """Closes an entity whose members have all ended; which entities to release now."""
        return cast("list[int]", json.loads(self.call(run_id, "complete", entity)))

    def due(self, run_id: str) -> list[int]:
        """Members whose retry is due: publish them now."""
        return [int(index) for index in self.call(run_id, "due")]

    def delayed(self, run_id: str) -> set[int]:
        """Members that wait for a retry that is not due."""
        return {int(text_of(index)) for index in self._redis.zrange(run_key(run_id)[:-3] + "delayed", 0, -1)}

    def queued(self, run_id: str, first: int, size: int) -> list[int]:
        """Which of `size` members from `first` on are queued."""
        letters = cast(bytes, self._redis.getrange(run_key(run_id)[:-3] + "state", first, first + size - 1))
        return [first + offset for offset, letter in enumerate(letters) if letter == ord("q")]

    def setup_state(self, run_id: str) -> tuple[str, str]:
        """Token of the worker that sets a run up (empty: none does), and its counter."""
        token, beat = self._redis.hmget(run_key(run_id), ["setup", "setup_beat"])
        return text_of(token), text_of(beat)

    def server_id(self) -> str:
        """Changes when the store's server is started again."""
        return str(self._redis.info("server")["run_id"])

    def take_lock(self, name: str, owner: str, seconds: float) -> bool:
        """Takes a lock, or keeps it; False: somebody else has it."""
        if self._redis.set(name, owner, nx=True, px=int(seconds * 1000)):
            return True
        if text_of(self._redis.get(name)) != owner:
            return False
        return bool(self._redis.pexpire(name, int(seconds * 1000)))

    def drop_lock(self, name: str, owner: str) -> None:
        """Gives a lock back."""
        if text_of(self._redis.get(name)) == owner:
            self._redis.delete(name)

    def leases(self, run_id: str) -> dict[int, str]:
        """The lease counters of a run's running members."""
        return {
            int(index): text_of(count) for index, count in self._redis.hgetall(run_key(run_id)[:-3] + "lease").items()
        }

    def lose(self, run_id: str, attempts: Sequence[tuple[int, int, str, str]]) -> list[str]:
        """Takes attempts (index, entity, counter, reason) back whose counter has not moved; see store.lua for the answers."""
        flat = [part for attempt in attempts for part in attempt]
        return [text_of(answer) for answer in self.call(run_id, "lose", *flat)]


def _setup_waits(token: str, workers: Sequence[WorkerRecord]) -> str:
    if not any(worker.age <= worker.lease for worker in workers):
        return "waits for a worker; none is registered"
    return "waits for its setup: a worker loads its assets" if token else "waits for a worker to take its setup"


def entity_of(run: RunRecord, index: int) -> EntityRecord:
    """The entity of a member.

    Raises:
        IndexError: the run has no such member.
    """
    for entity in run.entities:
        if entity.first <= index < entity.first + entity.size:
            return entity
    raise IndexError(f"run {run.run_id} has no member {index}")


def _stop_after(on_failure: str) -> int:
    """Failures that stop an entity; 0: never."""
    if on_failure == "continue":
        return 0
    if on_failure == "stop":
        return 1
    return int(on_failure.removeprefix("stop:"))
