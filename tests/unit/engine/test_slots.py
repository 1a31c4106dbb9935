"""Slots: what a node gives, and gets back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskensemble.engine.records import ResourcesRecord
from workers.slots import Node, Slot

WANTED = st.builds(
    ResourcesRecord,
    cpus=st.integers(1, 6),
    gpus=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]),
    memory_mb=st.sampled_from([0, 100, 900]),
    whole_node=st.booleans(),
)


def test_cpus_that_lie_together_are_preferred() -> None:
    node = Node((0, 1, 2, 3, 4, 5))
    first = node.allocate(ResourcesRecord(cpus=1))
    assert first == Slot((0,))
    assert node.allocate(ResourcesRecord(cpus=2)) == Slot((1, 2))
    node.release(first)
    assert node.allocate(ResourcesRecord(cpus=3)) == Slot((3, 4, 5))


def test_fractions_fill_one_gpu_before_they_touch_the_next() -> None:
    node = Node(tuple(range(8)), ("0", "1"))
    half = ResourcesRecord(gpus=0.5)
    assert [node.allocate(half).gpus for _ in range(2)] == [(("0", 0.5),)] * 2  # type: ignore[union-attr]
    assert node.allocate(ResourcesRecord(gpus=1)).gpus == (("1", 1.0),)  # type: ignore[union-attr]
    assert node.allocate(half) is None


def test_a_whole_node_is_given_only_when_idle_and_to_one_alone() -> None:
    node = Node((0, 1), ("0",), 1000)
    whole = ResourcesRecord(whole_node=True)
    small = node.allocate(ResourcesRecord())
    assert small is not None
    assert node.allocate(whole) is None
    node.release(small)
    slot = node.allocate(whole)
    assert slot == Slot((0, 1), (("0", 1.0),), 1000, whole_node=True)
    assert node.fits(ResourcesRecord()) == 0
    node.release(slot)
    assert node.fits(ResourcesRecord()) == 2


def test_tags_sizes_and_further_nodes_that_a_node_does_not_have_are_refused_for_good() -> None:
    node = Node((0, 1), ("0",), 1000, ("big",))
    assert node.could_ever(ResourcesRecord(cpus=2, gpus=1, memory_mb=1000, tags=("big",)))
    for wanted in (
        ResourcesRecord(cpus=3),
        ResourcesRecord(gpus=2),
        ResourcesRecord(memory_mb=1001),
        ResourcesRecord(tags=("other",)),
        ResourcesRecord(nodes=2),
    ):
        assert not node.could_ever(wanted)


@given(st.lists(st.tuples(WANTED, st.booleans()), max_size=40))
def test_nothing_is_given_twice_and_everything_comes_back(steps: list[tuple[ResourcesRecord, bool]]) -> None:
    node = Node((0, 1, 2, 3), ("a", "b"), 1000)
    held: list[Slot] = []
    for wanted, give_back in steps:
        if give_back and held:
            node.release(held.pop(0))
            continue
        room = node.fits(wanted)
        slot = node.allocate(wanted)
        assert (slot is not None) == (room > 0)
        if slot is not None:
            held.append(slot)
        cpus = [cpu for each in held for cpu in each.cpus]
        assert len(cpus) == len(set(cpus))
        for gpu in ("a", "b"):
            assert sum(share for each in held for name, share in each.gpus if name == gpu) <= 1.0 + 1e-9
        assert sum(each.memory_mb for each in held) <= 1000
    for slot in held:
        node.release(slot)
    assert node.idle
    assert node.fits(ResourcesRecord(cpus=4, gpus=2, memory_mb=1000)) == 1
