"""Slots of an allocation: no two members on one core, whole nodes kept whole, command lines that name the right nodes."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskensemble.engine.allocation import (
    AllocationNode,
    AllocationRecord,
    check_room,
    expand_counts,
    expand_hostlist,
    from_environment,
    job_of,
    slurm_seconds,
    with_details,
)
from taskensemble.engine.records import CommandRecord, ResourcesRecord, RunRecord, TemplateRecord
from taskensemble.errors import AllocationError
from workers.allocation import AllocationSlots, Placement, launch_line, of_this_worker, parse_ending, parse_steps
from workers.slots import Stay


def allocation(*cpus: int, gpus: int = 0, memory_mb: int = 0, scheduler: str = "slurm") -> AllocationRecord:
    nodes = tuple(AllocationNode(name=f"n{number}", cpus=count, gpus=gpus) for number, count in enumerate(cpus, 1))
    return AllocationRecord(scheduler=scheduler, job_id="7", nodes=nodes, memory_mb=memory_mb)  # type: ignore[arg-type]


def wanted(**values: object) -> ResourcesRecord:
    return ResourcesRecord(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3,07],login", ["n1", "n2", "n3", "n07", "login"]),
        ("nid[00034-00035]", ["nid00034", "nid00035"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("", []),
    ],
)
def test_slurms_host_lists_are_expanded(text: str, names: list[str]) -> None:
    assert expand_hostlist(text) == names


@pytest.mark.parametrize("text", ["n[1-2", "n[a-b]"])
def test_a_broken_host_list_is_an_error(text: str) -> None:
    with pytest.raises(AllocationError, match="host list"):
        expand_hostlist(text)


def test_counts_are_expanded() -> None:
    assert expand_counts("4(x2),2") == [4, 4, 2]
    with pytest.raises(AllocationError, match="counts"):
        expand_counts("4x2")


def test_each_schedulers_variables_give_its_nodes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    slurm = from_environment(
        {
            "SLURM_JOB_ID": "3",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_JOB_CPUS_PER_NODE": "4,2",
            "SLURM_GPUS_PER_NODE": "a100:2",
        }
    )
    assert slurm is not None
    assert [(node.name, node.cpus, node.gpus) for node in slurm.nodes] == [("n1", 4, 2), ("n2", 2, 2)]
    (tmp_path / "nodes").write_text("a\na\nb\n")
    pbs = from_environment({"PBS_JOBID": "3.s", "PBS_NODEFILE": str(tmp_path / "nodes")})
    assert pbs is not None
    assert [(node.name, node.cpus) for node in pbs.nodes] == [("a", 2), ("b", 1)]
    lsf = from_environment({"LSB_JOBID": "3", "LSB_MCPU_HOSTS": "batch1 1 h1 42 h2 42"})
    assert lsf is not None
    assert [(node.name, node.cpus) for node in lsf.nodes] == [("h1", 42), ("h2", 42)]
    (tmp_path / "pe").write_text("node1 8 all.q@node1 UNDEFINED\nnode2 8 all.q@node2 UNDEFINED\n")
    sge = from_environment({"JOB_ID": "3", "PE_HOSTFILE": str(tmp_path / "pe")})
    assert sge is not None
    assert sge.cpus == 16
    assert from_environment({"SLURM_CONF": "/x"}) is None


def test_a_heterogeneous_job_has_the_nodes_of_all_its_components() -> None:
    found = from_environment(
        {
            "SLURM_JOB_ID": "3",
            "SLURM_HET_SIZE": "2",
            "SLURM_JOB_NODELIST_HET_GROUP_0": "a1",
            "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_0": "4",
            "SLURM_JOB_NODELIST_HET_GROUP_1": "b[1-2]",
            "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_1": "8(x2)",
        }
    )
    assert found is not None
    assert found.hosts == ["a1", "b1", "b2"]
    assert found.het_groups == (1, 2)


def heterogeneous() -> AllocationSlots:
    """One node of 2 CPUs, and two of 4."""
    return AllocationSlots(allocation(2, 4, 4).model_copy(update={"het_groups": (1, 2)}))


def test_a_step_stays_in_one_component_of_a_heterogeneous_job() -> None:
    slots = heterogeneous()
    placements = [slots.allocate(wanted(cpus=2)) for _ in range(6)]
    assert [placement.hosts if placement else None for placement in placements] == [
        ["n1"],
        ["n2"],
        ["n2"],
        ["n3"],
        ["n3"],
        None,
    ]
    assert slots.could_ever(wanted(nodes=2))
    assert not slots.could_ever(wanted(nodes=3))
    second = heterogeneous().allocate(wanted(het_groups=(1,)))
    assert second is not None
    head = ("srun", "--het-group=1")
    argv, _ = launch_line(
        CommandRecord(head=(*head, "x"), launcher="srun"), [*head, "x"], second, slots.allocation, attempt_id="a"
    )
    assert [item for item in argv if item.startswith(("--het-group", "--nodelist"))] == [
        "--nodelist=n2",
        "--het-group=1",
    ]
    plain, _ = launch_line(CommandRecord(head=("x",)), ["x"], second, slots.allocation, attempt_id="a")
    assert "--het-group=1" in plain


def test_a_step_on_several_components_holds_nodes_of_each() -> None:
    slots = heterogeneous()
    placement = slots.allocate(wanted(het_groups=(0, 1)))
    assert placement is not None
    assert placement.hosts == ["n1", "n2"]
    head = ("srun", "--het-group=0,1")
    argv, _ = launch_line(
        CommandRecord(head=(*head, "x"), launcher="srun"), [*head, "x"], placement, slots.allocation, attempt_id="a"
    )
    assert argv == ["srun", "--exact", "--job-name=a", "--het-group=0,1", "x"]
    with pytest.raises(AllocationError, match="nodes"):
        check_room(run_of(("srun",), het_groups=(0,), nodes=2), slots.allocation)
    check_room(run_of(("srun",), het_groups=(1,), nodes=2), slots.allocation)


# What `scontrol --details --oneliner show job` of Slurm 22.05 prints: after `salloc -N2 --gres=gpu:2`, and `salloc -N2 --gpus=3`.
DETAILS = "JobId=10 TRES=cpu=8,node=2 JOB_GRES=gpu:4   Nodes=n[1-2] CPU_IDs=0-3 Mem=0 GRES=gpu:2(IDX:0-1) MinCPUsNode=1"
UNEVEN = (
    "JobId=11 JOB_GRES=gpu:a100:3   Nodes=n1 CPU_IDs=0-3 Mem=2000 GRES=gpu:a100:2(IDX:0-1)   Nodes=n2 CPU_IDs=0-3 Mem=1000 "
    "GRES=gpu:a100:1(IDX:0),nic:1 NodeList=n[1-2]"
)


@pytest.mark.parametrize(
    ("text", "gpus", "memory"),
    [(DETAILS, [2, 2], 0), (UNEVEN, [2, 1], 1000), ("", [0, 0], 0), (DETAILS.replace("n[1-2]", "n[1-3]"), [0, 0], 0)],
)
def test_slurm_tells_of_gpus_that_no_variable_tells_of(text: str, gpus: list[int], memory: int) -> None:
    found = with_details(allocation(4, 4), text)
    assert [node.gpus for node in found.nodes] == gpus
    assert found.memory_mb == memory


# What the same prints of a job's time.
TIMES = "JobState=RUNNING Reason=None Restarts=0 RunTime=00:01:30 TimeLimit={} TimeMin=N/A   Nodes=n[1-2] CPU_IDs=0-3 Mem=0 GRES="


@pytest.mark.parametrize(
    ("limit", "left"),
    [("00:10:00", 510.0), ("1-00:00:00", 86310.0), ("UNLIMITED", math.inf), ("Partition_Limit", math.inf)],
)
def test_slurm_tells_how_much_time_an_allocation_has_left(limit: str, left: float) -> None:
    assert with_details(allocation(4, 4), TIMES.format(limit)).time_left == pytest.approx(left, abs=5)
    assert with_details(allocation(4, 4), TIMES.format(limit), time.monotonic() - 100).time_left == pytest.approx(
        left - 100, abs=5
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("2:30", 150),
        ("1:02:30", 3750),
        ("1-2", 93600),
        ("1-2:30", 95400),
        ("1-2:30:05", 95405),
        ("x", None),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, seconds: float | None) -> None:
    assert slurm_seconds(text) == seconds


def test_the_shell_of_salloc_is_in_no_node_of_its_job_and_a_step_is() -> None:
    shell = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_CPUS_PER_NODE": "4"}
    assert job_of({}) == ""
    assert job_of(shell) == ""
    assert job_of({**shell, "SLURMD_NODENAME": "n1"}) == "7"


def test_an_allocation_begins_no_member_that_needs_more_time_than_is_left() -> None:
    stay = Stay("7", 100.0, time.monotonic() + 100.0)
    slots = AllocationSlots(allocation(4, 4), stay=stay)
    assert slots.fits(wanted(time=90)) == 8
    assert slots.fits(wanted(time=110)) == 0
    assert not slots.could_ever(wanted(time=110))
    assert slots.allocate(wanted(time=110)) is None
    assert slots.allocate(wanted(time=90)) is not None


def test_a_worker_serves_its_allocation_only_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"SLURM_JOB_ID": "3", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_CPUS_PER_NODE": "4(x2)"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert of_this_worker() is None
    monkeypatch.setenv("TASKENSEMBLE_ALLOCATION", "1")
    slots = of_this_worker()
    assert slots is not None
    assert len(slots.cpus) == 8


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.booleans()), max_size=30))
def test_no_two_members_ever_hold_one_cpu(members: list[tuple[int, int, bool]]) -> None:
    slots = AllocationSlots(allocation(4, 4, 8))
    held: list[Placement] = []
    for cpus, nodes, keep in members:
        placement = slots.allocate(wanted(cpus=cpus, nodes=nodes))
        if placement is None:
            continue
        assert len(placement.shares) >= nodes
        if keep:
            held.append(placement)
        else:
            slots.release(placement)
    taken = [(share.node, cpu) for placement in held for share in placement.shares for cpu in share.cpus]
    assert len(taken) == len(set(taken))
    assert slots.free == 16 - len(taken)
    for placement in held:
        slots.release(placement)
    assert slots.idle


def test_small_members_fill_a_node_before_they_open_another() -> None:
    slots = AllocationSlots(allocation(4, 4))
    placements = [slots.allocate(wanted()) for _ in range(4)]
    assert {placement.hosts[0] for placement in placements if placement} == {"n1"}
    assert slots.allocate(wanted(whole_node=True)) is not None
    assert slots.allocate(wanted()) is None


def test_a_member_larger_than_any_node_is_spread_and_one_larger_than_all_never_fits() -> None:
    slots = AllocationSlots(allocation(4, 4))
    placement = slots.allocate(wanted(cpus=6))
    assert placement is not None
    assert [len(share.cpus) for share in placement.shares] == [4, 2]
    assert not slots.could_ever(wanted(cpus=9))
    assert not slots.could_ever(wanted(nodes=3))
    assert not slots.could_ever(wanted(gpus=1))
    assert not slots.could_ever(wanted(tags=("big",)))
    assert slots.could_ever(wanted(cpus=8))


def test_nodes_of_a_database_are_left_to_it() -> None:
    slots = AllocationSlots(allocation(4, 4))
    slots.reserve(["n2"])
    assert len(slots.cpus) == 4
    assert not slots.could_ever(wanted(nodes=2))
    slots.reserve([])
    assert slots.could_ever(wanted(nodes=2))


def test_gpus_are_shared_by_fractions_and_whole_ones_stay_whole() -> None:
    slots = AllocationSlots(allocation(8, gpus=2))
    first, second = slots.allocate(wanted(gpus=0.5)), slots.allocate(wanted(gpus=0.5))
    assert first is not None
    assert second is not None
    assert first.shares[0].gpus == second.shares[0].gpus
    assert slots.allocate(wanted(gpus=1)) is not None
    assert slots.allocate(wanted(gpus=0.5)) is None
    assert slots.fits(wanted(gpus=1)) == 0
    assert slots.fits(wanted()) == 5


def line(
    command: CommandRecord, resources: ResourcesRecord, where: AllocationRecord, **values: object
) -> tuple[list[str], dict[str, str]]:
    placement = AllocationSlots(where).allocate(resources)
    assert placement is not None
    return launch_line(command, [*command.head, "own"], placement, where, attempt_id="a1", **values)  # type: ignore[arg-type]


def test_srun_gets_exactly_its_nodes_and_cpus() -> None:
    command = CommandRecord(head=("srun", "--nodes=2", "--ntasks=4", "prog"), launcher="srun", nodes=2, tasks=4)
    argv, added = line(command, wanted(cpus=2, nodes=2), allocation(4, 4))
    assert argv == [
        "srun",
        "--exact",
        "--job-name=a1",
        "--nodelist=n1,n2",
        "--cpus-per-task=1",
        "--nodes=2",
        "--ntasks=4",
        "prog",
        "own",
    ]
    assert added["OMP_NUM_THREADS"] == "1"


def test_a_plain_program_becomes_a_step_with_its_share_of_memory_and_no_gpus() -> None:
    argv, _ = line(CommandRecord(head=("prog",)), wanted(cpus=2), allocation(4, gpus=1, memory_mb=8000))
    assert argv == [
        *(
            "srun",
            "--exact",
            "--job-name=a1",
            "--nodelist=n1",
            "--nodes=1",
            "--ntasks=1",
            "--cpus-per-task=2",
            "--mem=4000M",
        ),
        *("--gres=none", "prog", "own"),
    ]


def test_mpi_sees_an_allocation_that_is_its_share() -> None:
    command = CommandRecord(head=("/nowhere/mpirun", "-n", "4", "prog"), launcher="mpirun", nodes=2, tasks=4)
    argv, added = line(command, wanted(cpus=2, nodes=2), allocation(4, 4), exported=["SSDB"], node_cpus=[8, 9, 10, 11])
    assert argv == ["/nowhere/mpirun", "-x", "SSDB", "-n", "4", "prog", "own"]
    assert added["SLURM_NODELIST"] == "n1,n2"
    assert added["SLURM_TASKS_PER_NODE"] == "2,2"
    assert added["OMPI_MCA_hwloc_base_cpu_list"] == "8,9"


def test_mpi_sees_the_gpus_that_it_holds_and_no_others() -> None:
    command = CommandRecord(head=("/nowhere/mpirun", "prog"), launcher="mpirun")
    _, added = line(command, wanted(gpus=1), allocation(4, gpus=2))
    assert added["CUDA_VISIBLE_DEVICES"] == added["ROCR_VISIBLE_DEVICES"] == "0"
    _, added = line(command, wanted(), allocation(4, gpus=2))
    assert added["CUDA_VISIBLE_DEVICES"] == added["ROCR_VISIBLE_DEVICES"] == ""
    _, added = line(command, wanted(), allocation(4))
    assert "CUDA_VISIBLE_DEVICES" not in added


def test_elsewhere_mpi_gets_its_hosts_by_option() -> None:
    command = CommandRecord(head=("/nowhere/mpirun", "prog"), launcher="mpirun")
    assert line(command, wanted(cpus=2), allocation(4, scheduler="pbs"))[0] == [
        "/nowhere/mpirun",
        "--host",
        "n1:2",
        "prog",
        "own",
    ]
    pals = CommandRecord(head=("mpiexec", "prog"), launcher="palsmpiexec")
    assert line(pals, wanted(), allocation(4, scheduler="pbs"))[0] == ["mpiexec", "--hosts", "n1", "prog", "own"]
    alps = CommandRecord(head=("aprun", "prog"), launcher="aprun")
    assert line(alps, wanted(), allocation(4, scheduler="pbs"))[0] == ["aprun", "--node-list=n1", "prog", "own"]
    jsrun = CommandRecord(head=("jsrun", "prog"), launcher="jsrun")
    assert line(jsrun, wanted(), allocation(4, scheduler="lsf"))[0] == ["jsrun", "prog", "own"]


def test_steps_are_found_by_the_name_of_their_attempt() -> None:
    assert parse_steps("7.batch batch\n7.3 a1\n7.4 a2\n\n7.5 a1\n", "a1") == ["7.3", "7.5"]
    assert parse_steps("7.3 w:1.2:1\n8.0 w:1.2:12\n7.4 w:1.3:1\n", "w:1.2:") == ["7.3", "8.0"]
    assert parse_steps("7.3 w:1.2:1\n8.0 w:1.2:12\n", "w:1.2:1") == ["7.3"]


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        # What squeue 22.05 prints: of a job that runs, one that makes room for another, and one at its walltime.
        ((0, "RUNNING             N/A                      \n", ""), False),
        ((0, "RUNNING             2026-11-27T18:52:09      \n", ""), True),
        ((0, "COMPLETING          N/A                      \n", ""), True),
        ((0, "TIMEOUT             N/A                      \n", ""), True),
        ((1, "", "slurm_load_jobs error: Invalid job id specified\n"), True),
        ((1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"), None),
    ],
)
def test_slurm_says_whether_it_ends_a_job(answer: tuple[int, str, str], ending: bool | None) -> None:
    assert parse_ending(*answer) is ending


def run_of(head: tuple[str, ...], **resources: object) -> RunRecord:
    template = TemplateRecord(command=CommandRecord(head=head), resources=wanted(**resources))
    return RunRecord(run_id="r", experiment="e", path="/tmp/e", created=0.0, templates=(template,), entities=())


@pytest.mark.parametrize(
    "resources", [{"cpus": 4}, {"cpus": 6}, {"nodes": 2, "cpus": 4}, {"gpus": 1}, {"whole_node": True}]
)
def test_what_an_idle_allocation_holds_has_room(resources: dict[str, object]) -> None:
    check_room(run_of(("solver",), **resources), allocation(4, 4, gpus=1))


@pytest.mark.parametrize(
    ("resources", "reserved", "told"),
    [
        (
            {"nodes": 3},
            (),
            "holds 3 nodes with cpus=1 and gpus=0 on each, but the allocation 7 has 2 nodes of 4 CPUs and 0 GPUs",
        ),
        ({"cpus": 9}, (), "cpus=9"),
        ({"gpus": 1}, (), "gpus=1"),
        ({"nodes": 2}, ("n2",), "1 node of 4 CPUs and 0 GPUs, 1 more have databases; ask for a larger"),
    ],
)
def test_what_no_idle_allocation_of_this_size_could_hold_is_an_error(
    resources: dict[str, object], reserved: tuple[str, ...], told: str
) -> None:
    with pytest.raises(AllocationError, match=re.escape(told)):
        check_room(run_of(("solver",), **resources), allocation(4, 4), reserved)


def test_a_member_of_another_allocation_is_not_measured_by_this_one() -> None:
    check_room(run_of(("srun", "--jobid=9", "solver"), nodes=5), allocation(4))
