"""The Lua store against a model in Python: random interleavings of workers, repeated and stale calls, stops and losses."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskensemble.engine.records import EntityRecord, MemberRecord, RunRecord, State
from taskensemble.engine.store import Store
from tests.integration.engine.runs import template
from tests.integration.engine.servers import Server

_runs = itertools.count()


@dataclass
class Attempt:
    """An attempt as its worker sees it."""

    index: int
    token: str
    number: int
    current: bool = True


@dataclass
class Model:
    """What must be true of a run of two entities, the second after the first."""

    sizes: tuple[int, int]
    stop: int
    states: list[str] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    cancelled: list[bool] = field(default_factory=lambda: [False, False])
    closed: list[str] = field(default_factory=lambda: ["", ""])
    released: list[bool] = field(default_factory=lambda: [False, False])

    def entity(self, index: int) -> int:
        return 0 if index < self.sizes[0] else 1

    def of(self, entity: int) -> range:
        return range(self.sizes[0]) if entity == 0 else range(self.sizes[0], sum(self.sizes))

    def count(self, entity: int, letters: str) -> int:
        return sum(self.states[i] in letters for i in self.of(entity))

    def cancel(self, entity: int) -> None:
        if self.closed[entity] or self.cancelled[entity]:
            return
        self.cancelled[entity] = True
        for i in self.of(entity):
            if self.states[i] in "nq":
                self.states[i] = "x"

    def close(self, entity: int) -> bool:
        """Closes an entity that has nothing left; whether the second may start now."""
        if self.closed[entity] or self.count(entity, "nqr"):
            return False
        # A member that was stopped on its own leaves its entity incomplete, as a cancelled one is.
        failed, cancelled = self.count(entity, "f"), self.cancelled[entity] or self.count(entity, "x") > 0
        self.closed[entity] = "f" if failed else "x" if cancelled else "c"
        if entity == 0 and self.closed[0] != "c":
            self.cancel(1)
            self.close(1)
        return entity == 0 and self.closed[0] == "c" and not self.closed[1]


class StoreMachine(RuleBasedStateMachine):
    """Rules are what workers, drivers and the reaper do, in any order."""

    store: Store
    path: Path

    @initialize(sizes=st.tuples(st.integers(1, 4), st.integers(1, 3)), stop=st.integers(0, 2))
    def begin(self, sizes: tuple[int, int], stop: int) -> None:
        self.model = Model(sizes, stop)
        total = sum(sizes)
        self.model.states, self.model.attempts = ["n"] * total, [0] * total
        self.held: list[Attempt] = []
        self.tokens = itertools.count()
        entities = (
            EntityRecord(
                index=0,
                name="a",
                kind="Ensemble",
                path="/a",
                first=0,
                size=sizes[0],
                on_failure=f"stop:{stop}" if stop else "continue",
            ),
            EntityRecord(index=1, name="b", kind="Ensemble", path="/b", first=sizes[0], size=sizes[1], after=(0,)),
        )
        self.run_id = f"model-{next(_runs)}"
        run = RunRecord(
            run_id=self.run_id,
            experiment="e",
            path="/e",
            created=time.time(),
            entities=entities,
            templates=(template(["/bin/true"]),),
        )
        members = [MemberRecord(index=i, entity=self.model.entity(i), template=0, name=f"m{i}") for i in range(total)]
        self.store.write_run(run, members)
        self.store.begin_setup(self.run_id, "s")
        self.store.ready(self.run_id, "s")
        self.release(0)

    def release(self, entity: int) -> None:
        assert self.store.release(self.run_id, entity)
        self.model.released[entity] = True
        for i in self.model.of(entity):
            if self.model.states[i] == "n":
                self.model.states[i] = "q"

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.model.states) - 1))
        token = f"t{next(self.tokens)}"
        answer = self.store.claim(self.run_id, "w", "n", [(index, self.model.entity(index), token)])[0]
        state = self.model.states[index]
        expected = {"n": "later", "q": "claimed", "r": "taken", "c": "done", "f": "done", "x": "cancelled"}[state]
        assert answer.answer == expected
        if expected == "claimed":
            self.model.states[index] = "r"
            self.model.attempts[index] += 1
            assert answer.attempt == self.model.attempts[index]
            self.held.append(Attempt(index, token, answer.attempt))
            again = self.store.claim(self.run_id, "w", "n", [(index, self.model.entity(index), token)])[0]
            assert (again.answer, again.attempt) == ("claimed", answer.attempt)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from("cfxl"), retry=st.booleans(), twice=st.booleans())
    def finish(self, data: st.DataObject, outcome: str, retry: bool, twice: bool) -> None:
        attempt = data.draw(st.sampled_from(self.held))
        for _ in range(2 if twice else 1):
            self.finish_once(attempt, outcome, retry)

    def finish_once(self, attempt: Attempt, outcome: str, retry: bool) -> None:
        model, index = self.model, attempt.index
        entity = model.entity(index)
        delay = "0" if retry and outcome == "f" else ""
        answer = self.store.call(
            self.run_id, "finish", index, entity, attempt.token, outcome, 1, "why", 0.1, delay, 7, ""
        )[0].decode()
        if not attempt.current:
            assert answer == "stale"
            return
        attempt.current = False
        if outcome == "l" and model.cancelled[entity]:
            outcome = "x"
        if outcome == "l" or (outcome == "f" and retry and not model.cancelled[entity]):
            model.states[index] = "q"
            assert answer == "retry"
            return
        if outcome == "f" and model.cancelled[entity]:
            outcome = "x"
        model.states[index] = outcome
        if outcome == "f" and entity == 0 and model.stop and model.count(0, "f") >= model.stop:
            model.cancel(0)
        assert answer == ("zero" if not model.count(entity, "nqr") else "ok")

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.held))
        model, entity = self.model, self.model.entity(attempt.index)
        counter = self.store.leases(self.run_id).get(attempt.index, "none") if attempt.current else "stale"
        answer = self.store.lose(self.run_id, [(attempt.index, entity, counter, "lost")])[0]
        if not attempt.current:
            assert answer == "stale"
            return
        attempt.current = False
        model.states[attempt.index] = "x" if model.cancelled[entity] else "q"
        assert answer == ("retry" if not model.cancelled[entity] else "ok" if model.count(entity, "nqr") else "zero")

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(self.held))
        entity = self.model.entity(attempt.index)
        # A worker renews what it runs: an attempt that it has ended is not among it, one that was taken away may be.
        if (
            not attempt.current
            and self.model.states[attempt.index] == "q"
            and self.model.attempts[attempt.index] < attempt.number
        ):
            return
        answer = self.store.call(
            self.run_id, "renew", "w", "n", attempt.index, entity, attempt.token, attempt.number, 7
        )[0]
        expected = b"lost" if not attempt.current else b"stop" if self.model.cancelled[entity] else b"ok"
        assert answer == expected

    @rule(entity=st.integers(0, 1))
    def complete(self, entity: int) -> None:
        released = self.store.complete(self.run_id, entity)
        assert released == ([1] if self.model.close(entity) else [])
        if released:
            self.release(1)

    @rule(entity=st.sampled_from([None, 0, 1]))
    def cancel(self, entity: int | None) -> None:
        if self.store.status(self.run_id).state.final:
            return
        self.store.cancel(self.run_id, entity, "stop")
        for each in (0, 1) if entity is None else (entity,):
            self.model.cancel(each)
        for each in (0, 1) if entity is None else (entity,):
            assert not self.model.close(each)

    @invariant()
    def counters_and_states_agree_with_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        model = self.model
        status = self.store.status(self.run_id)
        everything = [model.states.count(letter) for letter in "rcfx"]
        assert [status.running, status.completed, status.failed, status.cancelled] == everything
        assert status.queued == len(model.states) - sum(everything)
        words = {
            "n": State.NEW,
            "q": State.QUEUED,
            "r": State.RUNNING,
            "c": State.COMPLETED,
            "f": State.FAILED,
            "x": State.CANCELLED,
        }
        assert self.store.states(self.run_id) == [words[letter] for letter in model.states]
        for entity, counters, state in self.store.entity_status(self.run_id):
            counts = [model.count(entity.index, letters) for letters in ("nq", "r", "c", "f", "x")]
            assert [
                counters.queued,
                counters.running,
                counters.completed,
                counters.failed,
                counters.cancelled,
            ] == counts
            assert state.final == bool(model.closed[entity.index])
        ended = all(model.closed)
        assert status.state.final == ended
        if ended:
            expected = "f" if "f" in model.closed else "x" if "x" in model.closed else "c"
            assert status.state is words[expected]
        running = {i for i, letter in enumerate(model.states) if letter == "r"}
        assert set(self.store.leases(self.run_id)) == running


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    store = Store.connect(server.url)
    yield store
    store.close()


def test_any_interleaving_keeps_record_counters_and_states_in_step(store: Store, tmp_path: Path) -> None:
    StoreMachine.store, StoreMachine.path = store, tmp_path
    chosen = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(StoreMachine, settings=chosen)
