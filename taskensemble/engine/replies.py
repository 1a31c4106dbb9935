"""What the store keeps and answers, read as records. Pure: nothing here asks a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

from taskensemble.engine import signing
from taskensemble.engine.records import (
    SCHEMA,
    AttemptRecord,
    Counters,
    EntityRecord,
    EventRecord,
    OutputsRecord,
    QueueRecord,
    RunRecord,
    State,
    WorkerRecord,
)
from taskensemble.errors import RecordSchemaError

STATES = {
    "n": State.NEW,
    "q": State.QUEUED,
    "a": State.QUEUED,
    "r": State.RUNNING,
    "c": State.COMPLETED,
    "f": State.FAILED,
    "x": State.CANCELLED,
    "p": State.PAUSED,
}


def state_of(letter: str) -> State:
    """The state that a byte of the store stands for."""
    return STATES[letter]


_AnyRecord = TypeVar("_AnyRecord", QueueRecord, WorkerRecord)


class EntityStatus(NamedTuple):
    """An entity of a run with the counters of its members and its own state."""

    entity: EntityRecord
    counters: Counters
    state: State


@dataclass(frozen=True)
class Claim:
    """One answer to a claim: `answer` as in store.lua, and when it was granted the attempt and the member."""

    answer: str
    attempt: int
    failures: int
    """How many attempts have failed before; lost ones do not count."""
    member: str
    """JSON of the MemberRecord; empty unless the answer is `claimed` or `armed`."""


class Held(NamedTuple):
    """A running attempt of a member."""

    member: int
    """Its index in the run."""
    counter: str
    """Of its lease."""
    token: str
    attempt: int
    failures: int
    """How many attempts have failed before."""


def text_of(value: Any) -> str:
    """A text that the server gave as bytes; nothing is the empty text."""
    return value.decode() if isinstance(value, bytes) else str(value or "")


def readable(kind: type[_AnyRecord], texts: Iterable[bytes | str]) -> list[_AnyRecord]:
    """Records of what all runs share: one of another version of taskensemble is nobody's trouble but its own."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(kind.model_validate_json(text))
    return found


def read_run(text: bytes | str, schema: bytes | str | None) -> RunRecord:
    """A RunRecord from what the store keeps.

    Raises:
        RecordSchemaError: another version of taskensemble wrote it, or somebody else.
    """
    if text_of(schema) != str(SCHEMA):
        found = text_of(schema) or "none"
        message = f"The run has record schema {found}, this is taskensemble with schema {SCHEMA}: "
        raise RecordSchemaError(message + "install the same version of taskensemble for drivers and workers")
    try:
        return RunRecord.model_validate_json(text)
    except ValueError as error:
        raise RecordSchemaError(f"The run's record cannot be read: {error}") from error


def read_claims(answer: Sequence[Any]) -> list[Claim]:
    """The answers of the claim operation."""
    fours = (answer[at : at + 4] for at in range(0, len(answer), 4))
    return [
        Claim(text_of(word), int(number), int(failures), text_of(member)) for word, number, failures, member in fours
    ]


def read_outputs(run_id: str, index: int, text: bytes) -> OutputsRecord:
    """What a member has sent, from the store's text."""
    keys = signing.from_environment()
    if keys is None:
        return OutputsRecord.model_validate_json(text)
    try:
        outputs = OutputsRecord.model_validate_json(keys.unseal(signing.OUTPUTS, run_id, text))
        if outputs.content != f"{index}.{outputs.attempt}":
            raise signing.SignatureError(f"it is of the content {outputs.content!r}")
    except signing.SignatureError as error:
        raise signing.SignatureError(f"What member {index} of {run_id} has sent is not used: {error}") from None
    return outputs


def read_attempt(index: int, letter: str, text: bytes | str | None) -> AttemptRecord:
    """A member's latest attempt, from its letter and what is known of it; without that, of a member that was never claimed."""
    # Validation by pydantic's core is quicker than `model_construct`, which does without: there may be 100,000 of them.
    if not text:
        return AttemptRecord(index=index, state=STATES[letter])
    known = json.loads(text)
    return AttemptRecord(
        index=index,
        state=STATES[letter],
        attempt=known.get("a", 0),
        worker=known.get("w", ""),
        node=known.get("n", ""),
        pid=known.get("p", 0),
        started=known.get("s"),
        ended=known.get("e"),
        returncode=known.get("c"),
        reason=known.get("y") or "",
        slots=tuple(int(cpu) for cpu in known.get("u", "").split(",") if cpu),
    )


def read_event(identifier: str, fields: Mapping[bytes, bytes]) -> EventRecord:
    """An entry of a run's event stream."""
    known = {text_of(name): text_of(value) for name, value in fields.items()}

    def whole(name: str) -> int | None:
        return int(known[name]) if known.get(name) else None

    return EventRecord(
        id=identifier,
        kind=cast(Any, known["k"]),
        state=STATES[known["s"]] if "s" in known else None,
        index=whole("i"),
        entity=whole("e"),
        attempt=whole("a"),
        returncode=whole("c"),
        reason=known.get("r", ""),
        time=int(identifier.split("-", 1)[0]) / 1000,
    )
