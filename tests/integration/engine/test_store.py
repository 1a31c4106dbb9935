"""The record store against a real server: what each operation promises."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from taskensemble.engine.records import MemberRecord, State
from taskensemble.engine.store import Store, run_key
from taskensemble.errors import ControlPlaneError, EntityExistsError, RunNotFoundError
from tests.integration.engine.plane import until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import Server


def started(server: Server, tmp_path: Path, size: int = 3, **fields: object) -> tuple[Store, str]:
    store = Store.connect(server.url)
    run, members = one_entity(tmp_path, ["/bin/true"], size, **fields)  # type: ignore[arg-type]
    store.write_run(run, members)
    assert store.begin_setup(run.run_id, "setup-1") == "go"
    assert store.ready(run.run_id, "setup-1")
    assert store.release(run.run_id, 0)
    return store, run.run_id


def finish(store: Store, run_id: str, index: int, token: str, outcome: str, *, delay: str = "") -> str:
    answer = store.call(run_id, "finish", index, 0, token, outcome, 0 if outcome == "c" else 1, "", 0.5, delay, 42, "0")
    return str(answer[0].decode())


def test_what_a_driver_has_written_of_a_run_that_it_did_not_open_expires_and_a_run_that_it_did_is_kept(
    server: Server, tmp_path: Path
) -> None:
    store, client = Store.connect(server.url), server.client()
    run, members = one_entity(tmp_path, ["/bin/true"], 2001)
    prefix = run_key(run.run_id)[: -len("run")]

    def dying() -> Iterator[MemberRecord]:
        yield from members[:2000]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_run(run, dying(), {"ab": b"bytes"}, {"0:TOKEN": "secret"})
    assert sorted(client.keys(f"{prefix}*")) == [f"{prefix}members".encode(), f"{prefix}secrets".encode()]
    assert all(0 < client.ttl(key) <= 3600 for key in client.keys(f"{prefix}*"))
    store.write_run(run, members, {"ab": b"bytes"}, {"0:TOKEN": "secret"})
    assert {client.ttl(key) for key in client.keys(f"{prefix}*")} == {-1}


def test_a_server_without_room_is_named_when_a_run_is_written(own_server: Server, tmp_path: Path) -> None:
    store = Store.connect(own_server.url)
    run, members = one_entity(tmp_path, ["/bin/true"], 3)
    own_server.client().config_set("maxmemory", 1)
    with pytest.raises(ControlPlaneError, match=r"cannot be written.*disk or its memory is full: make room"):
        store.write_run(run, members)
    own_server.client().config_set("maxmemory", 0)
    store.write_run(run, members)


def test_two_hundred_threads_of_a_driver_wait_for_a_run_at_once(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 1)
    with ThreadPoolExecutor(200) as threads:
        waiting = [threads.submit(store.wait_final, run_id, 30.0) for _ in range(200)]
        until(lambda: server.client().info("clients")["blocked_clients"] == 200, "all of them wait")
        store.claim(run_id, "w", "node", [(0, 0, "t")])
        assert finish(store, run_id, 0, "t", "c") == "zero"
        store.complete(run_id, 0)
        assert {future.result().state for future in waiting} == {State.COMPLETED}


def test_a_written_run_reads_back_as_it_was(server: Server, tmp_path: Path) -> None:
    store = Store.connect(server.url)
    run, members = one_entity(tmp_path, ["/bin/echo", "é"], 5)
    store.write_run(run, members, {"ab": b"bytes"})
    fresh = Store.connect(server.url)
    assert fresh.run(run.run_id) == run
    assert fresh.members(run.run_id, 1, 4) == members[1:4]
    assert fresh.asset(run.run_id, "ab") == b"bytes"
    assert fresh.status(run.run_id).state is State.NEW
    assert fresh.status(run.run_id).queued == 5
    assert fresh.runs("exp") == [run.run_id]
    with pytest.raises(EntityExistsError):
        fresh.write_run(run, members)


def test_an_unknown_run_is_an_error_that_names_it(server: Server) -> None:
    store = Store.connect(server.url)
    for ask in (store.run, store.status, store.cancel):
        with pytest.raises(RunNotFoundError, match="nope"):
            ask("nope")


def test_a_member_is_claimed_once_and_a_repeated_claim_gets_the_same_answer(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path)
    first = store.claim(run_id, "w1", "node", [(0, 0, "t1")])[0]
    assert (first.answer, first.attempt) == ("claimed", 1)
    assert '"plate_0"' in first.member
    assert store.claim(run_id, "w1", "node", [(0, 0, "t1")])[0].answer == "claimed"
    assert store.claim(run_id, "w2", "node", [(0, 0, "t2")])[0].answer == "taken"
    assert finish(store, run_id, 0, "t2", "c") == "stale"
    assert finish(store, run_id, 0, "t1", "c") == "ok"
    assert finish(store, run_id, 0, "t1", "c") == "stale"
    assert store.claim(run_id, "w2", "node", [(0, 0, "t3")])[0].answer == "done"


def test_the_last_member_asks_for_the_completion_which_ends_the_run(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 3)
    store.claim(run_id, "w1", "node", [(i, 0, f"t{i}") for i in range(3)])
    assert [finish(store, run_id, i, f"t{i}", "f" if i == 1 else "c") for i in range(3)] == ["ok", "ok", "zero"]
    assert store.complete(run_id, 0) == []
    status = store.status(run_id)
    assert (status.state, status.completed, status.failed) == (State.FAILED, 2, 1)
    assert "plate: 1 member failed" in status.reason
    kinds = [(event.kind, event.state) for event in store.watch(run_id, timeout=5)]
    assert kinds[-1] == ("run", State.FAILED)
    assert kinds.count(("end", State.COMPLETED)) == 2
    assert store.wait_final(run_id, 5).state is State.FAILED


def test_a_failed_attempt_with_a_retry_goes_back_to_the_queue_and_waits_its_delay(
    server: Server, tmp_path: Path
) -> None:
    store, run_id = started(server, tmp_path, 1)
    store.claim(run_id, "w1", "node", [(0, 0, "t1")])
    assert finish(store, run_id, 0, "t1", "f", delay="0") == "retry"
    again = store.claim(run_id, "w1", "node", [(0, 0, "t2")])[0]
    assert (again.answer, again.attempt) == ("claimed", 2)
    assert finish(store, run_id, 0, "t2", "f", delay="30") == "delayed"
    assert store.claim(run_id, "w1", "node", [(0, 0, "t3")])[0].answer == "later"
    assert store.due(run_id) == []


def test_cancelling_refuses_claims_and_ends_the_run_when_nothing_runs(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 3)
    store.claim(run_id, "w1", "node", [(0, 0, "t1")])
    store.cancel(run_id, reason="enough of it")
    assert store.claim(run_id, "w1", "node", [(1, 0, "t2")])[0].answer == "cancelled"
    assert store.status(run_id).state is State.RUNNING
    assert finish(store, run_id, 0, "t1", "x") == "zero"
    store.complete(run_id, 0)
    status = store.status(run_id)
    assert (status.state, status.cancelled, status.reason) == (State.CANCELLED, 3, "enough of it")


def test_a_lease_that_stands_still_is_lost_and_one_that_moves_is_not(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 2)
    store.claim(run_id, "w1", "node", [(0, 0, "t0"), (1, 0, "t1")])
    leases = store.leases(run_id)
    assert [a.decode() for a in store.call(run_id, "renew", "w1", "node", 0, 0, "t0", 1, 99)] == ["ok"]
    assert store.lose(run_id, [(0, 0, leases[0], "lost"), (1, 0, leases[1], "lost")]) == ["stale", "retry"]
    assert [a.decode() for a in store.call(run_id, "renew", "w1", "node", 1, 0, "t1", 1, 98)] == ["lost"]
    assert finish(store, run_id, 1, "t1", "c") == "stale"
    assert store.attempts(run_id, [0])[0].pid == 99


def test_the_lease_of_a_next_attempt_never_looks_like_the_one_before_it(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 1)
    store.claim(run_id, "w1", "node", [(0, 0, "t0")])
    first = store.leases(run_id)[0]
    assert store.lose(run_id, [(0, 0, first, "lost")]) == ["retry"]
    time.sleep(0.002)  # the counter begins at the store's milliseconds
    store.claim(run_id, "w2", "node", [(0, 0, "t1")])
    assert store.leases(run_id)[0] != first
    assert store.lose(run_id, [(0, 0, first, "lost")]) == ["stale"]


def test_what_a_restarted_store_has_forgotten_is_taken_back_from_the_worker(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 1)
    assert [a.decode() for a in store.call(run_id, "renew", "w1", "node", 0, 0, "t0", 1, 99)] == ["ok"]
    assert store.status(run_id).running == 1
    assert store.claim(run_id, "w2", "node", [(0, 0, "t9")])[0].answer == "taken"


def test_members_that_wait_for_their_peers_still_do_when_a_restarted_store_has_forgotten_them(
    server: Server, tmp_path: Path
) -> None:
    store, run_id = started(server, tmp_path, 2, together=True)
    assert store.call(run_id, "renew", "w1", "node", 0, 0, "t0", 1, -1) == [b"armed"]
    assert (store.status(run_id).running, store.armed(run_id, 0)) == (0, 1)
    assert store.call(run_id, "renew", "w2", "node", 1, 0, "t1", 1, -1) == [b"ok"]
    assert store.call(run_id, "renew", "w1", "node", 0, 0, "t0", 1, -1) == [b"ok"]
    assert (store.status(run_id).running, store.armed(run_id, 0)) == (2, 0)


def test_members_that_run_together_start_when_the_last_one_has_its_slot(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 2, together=True)
    assert store.claim(run_id, "w1", "node", [(0, 0, "t0")])[0].answer == "armed"
    assert store.status(run_id).running == 0
    assert store.call(run_id, "disarm", 0, 0, "t0") == 1
    # A renewal that was on its way does not make it run: nobody would end it.
    assert store.call(run_id, "renew", "w1", "node", 0, 0, "t0", 1, 0) == [b"lost"]
    assert store.status(run_id).running == 0
    assert store.claim(run_id, "w1", "node", [(0, 0, "t0")])[0].answer == "armed"
    assert store.claim(run_id, "w2", "node", [(1, 0, "t1")])[0].answer == "claimed"
    assert store.status(run_id).running == 2


def test_an_entity_stops_after_its_failures_and_another_when_enough_have_completed(
    server: Server, tmp_path: Path
) -> None:
    store, run_id = started(server, tmp_path, 5, on_failure="stop:2")
    store.claim(run_id, "w1", "node", [(i, 0, f"t{i}") for i in range(3)])
    assert [finish(store, run_id, i, f"t{i}", "f") for i in range(3)] == ["ok", "ok", "zero"]
    store.complete(run_id, 0)
    # Exactly two have failed: the third ended after them, and says so.
    assert (store.status(run_id).failed, store.status(run_id).cancelled) == (2, 3)
    assert store.status(run_id).state is State.FAILED
    late = store.attempts(run_id, [2])[0]
    assert (late.state, late.returncode) == (State.CANCELLED, 1)
    assert late.reason == "it failed after this: plate stops after 2 failures"
    store, run_id = started(server, tmp_path, 5, enough=2)
    store.claim(run_id, "w1", "node", [(i, 0, f"t{i}") for i in range(2)])
    assert [finish(store, run_id, i, f"t{i}", "c") for i in range(2)] == ["ok", "zero"]
    store.complete(run_id, 0)
    assert store.status(run_id).state is State.COMPLETED


def test_members_that_end_at_the_same_moment_never_exceed_what_is_enough(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 6, enough=2)
    store.claim(run_id, "w1", "node", [(i, 0, f"t{i}") for i in range(5)])
    ends: list[Any] = []
    for index, letter in enumerate("cccfx"):
        ends += (index, 0, f"t{index}", letter, 0, "", 0.1, "", 7, "")
    assert [word.decode() for word in store.call(run_id, "finish", *ends)] == ["ok"] * 4 + ["zero"]
    store.complete(run_id, 0)
    status = store.status(run_id)
    assert (status.state, status.completed, status.failed, status.cancelled) == (State.COMPLETED, 2, 0, 4)
    reasons = [attempt.reason for attempt in store.attempts(run_id)]
    rule = "2 members have completed, which is enough"
    assert reasons == ["", "", f"it completed after this: {rule}", f"it failed after this: {rule}", rule, ""]


def test_a_member_that_completes_after_too_many_failures_has_completed(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 3, on_failure="stop")
    store.claim(run_id, "w1", "node", [(i, 0, f"t{i}") for i in range(2)])
    assert [finish(store, run_id, i, f"t{i}", letter) for i, letter in enumerate("fc")] == ["ok", "zero"]
    status = store.status(run_id)
    assert (status.completed, status.failed, status.cancelled) == (1, 1, 1)


def test_single_members_are_stopped_and_the_others_go_on(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 4, policy={"retries": 3})
    run = store.run(run_id)
    store.claim(run_id, "w1", "node", [(i, 0, f"t{i}") for i in range(2)])
    assert store.stop_members(run, [0, 2], "not needed") == ["told", "ok"]
    assert store.claim(run_id, "w1", "node", [(2, 0, "t2"), (3, 0, "t3")])[0].answer == "cancelled"
    answers = store.call(run_id, "renew", "w1", "node", 0, 0, "t0", 1, 99, 1, 0, "t1", 1, 98)
    assert [word.decode() for word in answers] == ["stop", "ok"]
    assert finish(store, run_id, 0, "t0", "l") == "ok"
    assert store.stop_members(run, [0], "again") == ["done"]
    assert finish(store, run_id, 1, "t1", "c") == "ok"
    assert finish(store, run_id, 3, "t3", "c") == "zero"
    store.complete(run_id, 0)
    status = store.status(run_id)
    assert (status.state, status.completed, status.cancelled) == (State.CANCELLED, 2, 2)
    assert [a.reason for a in store.attempts(run_id, [0, 2])] == ["not needed"] * 2
    assert store.entity_status(run_id)[0].counters.reason == "2 members were stopped"


def test_when_all_members_are_stopped_before_they_began_the_run_ends(server: Server, tmp_path: Path) -> None:
    store, run_id = started(server, tmp_path, 2)
    assert store.stop_members(store.run(run_id), [0, 1]) == ["ok", "ok"]
    assert store.status(run_id).state is State.CANCELLED


def test_entities_that_run_together_take_slots_one_after_the_other(server: Server, tmp_path: Path) -> None:
    store, first = started(server, tmp_path, 2, together=True)
    assert store.claim(first, "w1", "node", [(0, 0, "a0")])[0].answer == "armed"
    run, members = one_entity(tmp_path, ["/bin/true"], 2, together=True)
    second = run.run_id
    store.write_run(run, members)
    store.begin_setup(second, "s")
    store.ready(second, "s")
    store.release(second, 0)
    assert store.claim(second, "w2", "node", [(0, 0, "b0")])[0].answer == "wait"
    assert store.gangs() == [(first, 0), (second, 0)]
    # The first cannot go on for now: the second may.
    store.yield_gang(first, 0, 30)
    assert store.call(first, "disarm", 0, 0, "a0") == 1
    assert store.claim(first, "w1", "node", [(0, 0, "a1")])[0].answer == "wait"
    assert store.claim(second, "w2", "node", [(0, 0, "b0")])[0].answer == "armed"
    # A member that is stopped is not waited for.
    assert store.stop_members(run, [1]) == ["ok"]
    assert store.status(second).running == 1
    assert store.gangs() == [(first, 0)]
    store.cancel(first)
    assert store.gangs() == []


def test_a_run_that_fails_in_setup_has_started_no_member(server: Server, tmp_path: Path) -> None:
    store = Store.connect(server.url)
    run, members = one_entity(tmp_path, ["/bin/true"], 4)
    store.write_run(run, members)
    assert store.begin_setup(run.run_id, "s") == "go"
    assert store.begin_setup(run.run_id, "other") == "taken"
    store.fail_run(run.run_id, "AssetError: no such model")
    status = store.wait_final(run.run_id, 5)
    assert (status.state, status.reason, status.cancelled) == (State.FAILED, "AssetError: no such model", 4)
    assert not store.ready(run.run_id, "s")
