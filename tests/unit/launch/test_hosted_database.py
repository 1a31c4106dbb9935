"""Databases on nodes of an allocation: which nodes, what a step asks for, and one record out of those of the nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble.engine.allocation import AllocationNode, AllocationRecord
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.errors import DatabaseError, InputError
from taskensemble.launch.database import choose_nodes, merged, step_options, told_in


def allocation(count: int, gpus: int = 0) -> AllocationRecord:
    nodes = tuple(AllocationNode(name=f"n{number}", cpus=8, gpus=gpus) for number in range(1, count + 1))
    return AllocationRecord(scheduler="slurm", job_id="7", nodes=nodes)


def record(host: str, *addresses: str) -> DatabaseAddressRecord:
    return DatabaseAddressRecord(identifier="db", addresses=addresses, cluster=True, processes=(1,), host=host)


@pytest.mark.parametrize(
    ("nodes", "shards", "asked", "taken", "names"),
    [
        (2, 1, (), (), ["n2"]),
        (4, 3, (), (), ["n2", "n3", "n4"]),
        (3, 3, (), (), ["n2", "n3"]),
        (4, 1, (), ("n4",), ["n3"]),
        (4, 3, ("n1", "n3", "n1"), (), ["n1", "n3"]),
        (4, 1, ("n1", "n3"), (), ["n1"]),
    ],
)
def test_a_database_takes_the_last_nodes_and_leaves_one_for_members(
    nodes: int, shards: int, asked: tuple[str, ...], taken: tuple[str, ...], names: list[str]
) -> None:
    assert [node.name for node in choose_nodes(allocation(nodes), shards, asked, taken)] == names


@pytest.mark.parametrize(
    ("asked", "taken", "told"), [(("n9",), (), "hosts='n9' is not in the allocation 7"), ((), ("n2",), "no node left")]
)
def test_a_node_that_is_not_there_is_an_error(asked: tuple[str, ...], taken: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        choose_nodes(allocation(2), 1, asked, taken)


def test_a_step_has_all_of_its_nodes_and_their_gpus_for_inference() -> None:
    assert step_options("db", allocation(2).nodes) == [
        "srun", "--exact", "--job-name=database-db", "--nodelist=n1,n2", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1",
        "--kill-on-bad-exit=1",
        "--cpus-per-task=8", "--mem=0",
    ]  # fmt: skip
    assert step_options("db", allocation(1, gpus=4).nodes)[-1] == "--gres=gpu:4"


def test_the_shards_of_a_cluster_go_round_the_nodes() -> None:
    whole = merged([record("a", "10.0.0.1:1", "10.0.0.1:2"), record("b", "10.0.0.2:1")], 3)
    assert whole.addresses == ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:2")
    assert (whole.host, whole.cluster) == ("a,b", True)


def test_nodes_that_all_answer_at_loopback_are_refused() -> None:
    with pytest.raises(DatabaseError, match=r"all answer at 127\.0\.0\.1:6379: give interface="):
        merged([record(host, "127.0.0.1:6379") for host in ("a", "b", "c")], 3)


def test_the_cause_of_an_end_is_what_a_node_said_first(tmp_path: Path) -> None:
    log = tmp_path / "db.host.log"
    assert told_in(log) == "it wrote no log"
    log.write_text("srun: error: n1: task 0: Exited with exit code 1\n")
    assert told_in(log) == "srun: error: n1: task 0: Exited with exit code 1"
    # As it was written where a port was taken on one of three nodes.
    taken = "Database server db_2 ended: port=6780 is in use on 127.0.0.1: give another port, or 0 for any free one"
    log.write_text(
        f"{taken}\nsrun: error: n3: task 2: Exited with exit code 1\nlate\nsrun: error: n2: task 1: Killed\n"
    )
    assert told_in(log) == f"{taken}; late"
