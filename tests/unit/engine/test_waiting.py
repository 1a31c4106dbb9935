"""What a worker fetches: never more than there is room for, each run in turn, and nobody is left out for ever."""

from __future__ import annotations

import itertools

import pytest

from taskensemble.engine.records import QueueRecord, ResourcesRecord
from workers.slots import Node
from workers.waiting import Waiting

SERVICE = "te.setup"


def queue(name: str, cpus: int = 1, *, batch_queue: str = "", together: bool = False) -> QueueRecord:
    resources = ResourcesRecord(cpus=cpus)
    return QueueRecord(name=name, run=f"run of {name}", resources=resources, batch_queue=batch_queue, together=together)


def answer(*queues: QueueRecord) -> list[bytes]:
    """The store's list of queues."""
    return list(itertools.chain.from_iterable((q.name.encode(), q.model_dump_json().encode()) for q in queues))


@pytest.fixture
def node() -> Node:
    return Node((0, 1))


@pytest.fixture
def waiting(node: Node) -> Waiting:
    return Waiting(node, "")


def make_hungry(waiting: Waiting, name: str) -> None:
    """Its members have waited for longer than a worker lets them, while others ran."""
    assert name in waiting.without_room()
    waiting.on_length(name, 5, 100.0, others_run=True)
    waiting.on_length(name, 5, 111.0, others_run=True)


def test_no_more_messages_are_taken_than_find_a_slot(waiting: Waiting, node: Node) -> None:
    waiting.follow(answer(queue("a")))
    assert waiting.plan([SERVICE, "a"], draining=False) == ([SERVICE, "a"], 2)
    node.allocate(ResourcesRecord(cpus=1))
    assert waiting.plan([SERVICE, "a"], draining=False) == ([SERVICE, "a"], 1)
    node.allocate(ResourcesRecord(cpus=1))
    assert waiting.plan([SERVICE, "a"], draining=False) == ([SERVICE], 1)
    assert waiting.wanted() == []


def test_a_draining_worker_reads_no_members(waiting: Waiting) -> None:
    waiting.follow(answer(queue("a")))
    assert waiting.plan([SERVICE, "a"], draining=True) == ([SERVICE], 1)


def test_only_queues_whose_members_could_run_here_are_read(waiting: Waiting) -> None:
    changed = waiting.follow(answer(queue("fits"), queue("too wide", 3), queue("of a job", batch_queue="job")))
    assert changed
    assert list(waiting.queues) == ["fits"]
    assert not waiting.follow(answer(queue("fits")))


def test_a_record_that_cannot_be_read_costs_no_other_queue(waiting: Waiting) -> None:
    waiting.follow([b"broken", b"{", *answer(queue("a"))])
    assert list(waiting.queues) == ["a"]


def test_each_run_gets_a_slot_in_turn(waiting: Waiting, node: Node) -> None:
    waiting.follow(answer(queue("a"), queue("b")))
    for name in ("a", "b"):
        for number in range(4):
            waiting.add(f"{name}{number}", name)
    order = []
    while waiting.requests:
        taken = list(waiting.take())
        waiting.tidy(None)
        order += [name for _, name, _ in taken]
        for _, _, slot in taken[:1]:
            node.release(slot)
    assert order[2:6] == ["b", "a", "b", "a"]


def test_short_members_are_fetched_ahead(waiting: Waiting, node: Node) -> None:
    waiting.follow(answer(queue("a")))
    while node.allocate(ResourcesRecord(cpus=1)) is not None:
        pass
    assert waiting.wanted() == []
    waiting.durations["a"] = 0.01
    assert waiting.plan(["a"], draining=False) == (["a"], 50)


def test_members_that_run_together_are_not_fetched_ahead(waiting: Waiting, node: Node) -> None:
    waiting.follow(answer(queue("a", together=True)))
    while node.allocate(ResourcesRecord(cpus=1)) is not None:
        pass
    waiting.durations["a"] = 0.01
    assert waiting.wanted() == []


def test_what_found_no_slot_goes_back_where_the_broker_delivers_unasked(waiting: Waiting) -> None:
    waiting.follow(answer(queue("a")))
    for number in range(3):
        waiting.add(number, "a")
    assert [request for request, _, _ in waiting.take()] == [0, 1]
    given_back: list[tuple[str, list[object]]] = []
    waiting.tidy(lambda name, requests: given_back.append((name, requests)))
    assert given_back == [("a", [2])]
    assert not waiting.requests


def test_room_is_kept_for_members_that_smaller_ones_kept_out(waiting: Waiting, node: Node) -> None:
    waiting.follow(answer(queue("wide", 2), queue("small")))
    slot = node.allocate(ResourcesRecord(cpus=1))
    assert slot is not None
    make_hungry(waiting, "wide")
    assert waiting.wanted() == []
    node.release(slot)
    assert waiting.plan([SERVICE, "wide", "small"], draining=False) == ([SERVICE, "wide"], 1)
    waiting.add("first", "wide")
    ((_, _, slot),) = waiting.take()
    node.release(slot)
    waiting.tidy(None)
    assert set(waiting.wanted()) == {"wide", "small"}


def test_no_room_is_kept_for_members_whose_run_was_stopped(waiting: Waiting, node: Node) -> None:
    waiting.follow(answer(queue("wide", 2), queue("small")))
    node.allocate(ResourcesRecord(cpus=1))
    make_hungry(waiting, "wide")
    waiting.follow(answer(queue("small")))
    waiting.without_room()
    assert waiting.wanted() == ["small"]
