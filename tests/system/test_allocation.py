"""A driver inside an allocation: `salloc -N 2 python driver.py`, and no other command."""

# ruff: noqa: E501 - drivers are written as a user writes them, in strings.

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import REPOSITORY, Drive
from tests.system.slurm_cluster import SlurmCluster

ALLOCATE = ("salloc", "--quiet", "-N2", "--exclusive")


def test_members_of_an_ensemble_fill_both_nodes_and_never_share_a_cpu(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("alloc", launcher="slurm")
        rs = exp.create_run_settings("/bin/sh", ["-c", "echo $SLURMD_NODENAME $SLURM_CPUS_ON_NODE; date +%s.%N; sleep 1; date +%s.%N"])
        ens = exp.create_ensemble("sweep", run_settings=rs, replicas=12)
        exp.start(ens, quiet=True)
        tell(kind=type(rs).__name__, states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text() for m in ens],
             nodes=[row["node"] for row in exp.results()])
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert told["nodes"] == [out.split()[0] for out in told["out"]]
    assert told["kind"] == "SrunSettings"
    assert told["states"] == ["Completed"] * 12
    spans = [(out.split()[0], float(out.split()[2]), float(out.split()[3])) for out in told["out"]]
    assert {node for node, _, _ in spans} == {"n1", "n2"}
    assert {out.split()[1] for out in told["out"]} == {"1"}
    for node, began, _ in spans:
        assert sum(other == node and start <= began < end for other, start, end in spans) <= 4
    # Twelve members of a second on eight CPUs: two waves, not twelve.
    assert max(end for _, _, end in spans) - min(start for _, start, _ in spans) < 8
    assert driver.end() == 0


def test_two_members_of_two_nodes_run_at_the_same_time_with_their_ranks_spread(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("wide", launcher="slurm")
        rs = exp.create_run_settings("/bin/sh", ["-c", "echo $SLURMD_NODENAME $SLURM_PROCID/$SLURM_NTASKS $(date +%s.%N); sleep 2"])
        rs.set_nodes(2)
        rs.set_tasks(4)
        ens = exp.create_ensemble("wide", run_settings=rs, replicas=2)
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text() for m in ens])
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 2
    begins = []
    for out in told["out"]:
        lines = [line.split() for line in out.splitlines()]
        assert Counter(node for node, _, _ in lines) == {"n1": 2, "n2": 2}
        assert {rank for _, rank, _ in lines} == {f"{rank}/4" for rank in range(4)}
        begins.append(min(float(when) for _, _, when in lines))
    assert abs(begins[0] - begins[1]) < 1.5


def test_a_failing_step_is_a_failed_member_with_its_status_and_files(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("fails", launcher="slurm")
        good = exp.create_model("good", exp.create_run_settings("/bin/echo", "fine"))
        bad = exp.create_model("bad", exp.create_run_settings("/bin/sh", ["-c", "echo no >&2; exit 3"]))
        exp.start(good, bad, quiet=True)
        rows = {row["name"]: row for row in exp.results()}
        tell(states=exp.get_status(good, bad), code=rows["bad"]["returncode"], err=Path(bad.path, "bad.err").read_text())
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert told["states"] == ["Completed", "Failed"]
    assert told["code"] == 3
    assert "no" in told["err"].splitlines()


def test_stop_ends_steps_on_every_node_and_frees_the_allocation(drive: Drive, slurm) -> None:  # type: ignore[no-untyped-def]
    driver = drive(
        """
        exp = Experiment("stops", launcher="slurm")
        rs = exp.create_run_settings("/bin/sleep", "300")
        rs.set_nodes(2)
        rs.set_tasks(2)
        ens = exp.create_ensemble("long", run_settings=rs, replicas=3)
        exp.start(ens, block=False, quiet=True)
        while exp.get_status(ens).count("Running") < 3:
            time.sleep(0.1)
        time.sleep(1)
        began = time.monotonic()
        exp.stop(ens)
        took = time.monotonic() - began
        tell(states=exp.get_status(ens), took=took, steps=os.popen("squeue --steps --noheader --format=%j").read())
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert told["states"] == ["Cancelled"] * 3
    assert told["took"] < 20
    assert [step for step in told["steps"].split() if step not in ("extern", "batch", "interactive")] == []


def test_a_program_without_a_run_command_becomes_a_step_of_one_task(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("plain", launcher="slurm")
        rs = exp.create_run_settings("/bin/sh", ["-c", "echo $SLURMD_NODENAME $SLURM_NTASKS; sleep 1"], run_command=None)
        ens = exp.create_ensemble("plain", run_settings=rs, replicas=8)
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text().split() for m in ens])
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 8
    assert Counter(node for node, _ in told["out"]) == {"n1": 4, "n2": 4}
    assert {tasks for _, tasks in told["out"]} == {"1"}


def test_several_programs_of_one_step_share_its_ranks(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("mpmd", launcher="slurm")
        first = exp.create_run_settings("/bin/sh", ["-c", "echo first $SLURM_PROCID"])
        first.set_tasks(1)
        second = exp.create_run_settings("/bin/sh", ["-c", "echo second $SLURM_PROCID $COLOUR"], env_vars={"COLOUR": "red"})
        second.set_tasks(1)
        first.make_mpmd(second)
        model = exp.create_model("coupled", first)
        exp.start(model, quiet=True)
        tell(states=exp.get_status(model), out=Path(model.path, "coupled.out").read_text(), err=Path(model.path, "coupled.err").read_text())
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert told["states"] == ["Completed"], told["err"]
    assert sorted(line.split()[0] for line in told["out"].splitlines()) == ["first", "second"]


def test_a_member_that_the_allocation_could_never_hold_is_refused_before_anything_starts(drive: Drive) -> None:
    driver = drive(
        """
        from taskensemble.errors import AllocationError
        exp = Experiment("large", launcher="slurm")
        rs = exp.create_run_settings("/bin/true")
        rs.set_nodes(3)
        try:
            exp.start(exp.create_model("m", rs))
        except AllocationError as error:
            tell(error=str(error), left=len(exp.results()))
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert "holds 3 nodes" in told["error"]
    assert "2 nodes of 4 CPUs" in told["error"]
    assert told["left"] == 0


def test_a_launcher_of_a_cluster_without_an_allocation_is_refused_before_anything_starts(drive: Drive) -> None:
    driver = drive(
        """
        from taskensemble.errors import AllocationError
        exp = Experiment("none", launcher="slurm")
        model = exp.create_model("m", exp.create_run_settings("/bin/true"))
        try:
            exp.start(model)
        except AllocationError as error:
            tell(error=str(error), folder=os.path.exists(exp.exp_path))
        """
    )
    told = driver.result()
    assert "salloc" in told["error"]
    assert not told["folder"]
    assert driver.end() == 0
    assert not Path(driver.folder, "none").exists()


def test_members_get_gpus_of_their_own_and_those_without_see_none(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("gpus", launcher="slurm")
        say = "echo $SLURMD_NODENAME [$CUDA_VISIBLE_DEVICES] $(date +%s.%N); sleep 2; date +%s.%N"
        rs = exp.create_run_settings("/bin/sh", ["-c", say])
        ens = exp.create_ensemble("learn", run_settings=rs, replicas=4, resources={"gpus": 1})
        plain = exp.create_ensemble("plain", run_settings=rs, replicas=2)
        exp.start(ens, plain, quiet=True)
        tell(states=exp.get_status(ens, plain), gpus=[Path(m.path, m.name + ".out").read_text().split() for m in ens],
             plain=[Path(m.path, m.name + ".out").read_text().split() for m in plain])
        """,
        *ALLOCATE,
        "--gres=gpu:2",
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 6
    assert {tuple(out[:2]) for out in told["gpus"]} == {(node, f"[{gpu}]") for node in ("n3", "n4") for gpu in (0, 1)}
    assert max(float(out[2]) for out in told["gpus"]) < min(float(out[3]) for out in told["gpus"])
    assert [out[1] for out in told["plain"]] == ["[]"] * 2


def test_members_run_in_the_components_of_a_heterogeneous_job(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("het", launcher="slurm")
        say = ["-c", "echo $SLURMD_NODENAME"]
        both, second = exp.create_run_settings("/bin/sh", say), exp.create_run_settings("/bin/sh", say)
        both.set_het_group([0, 1])
        second.set_het_group([1])
        second.set_nodes(2)
        second.set_tasks(2)
        models = [exp.create_model("both", both), exp.create_model("second", second)]
        plain = exp.create_ensemble("plain", run_settings=exp.create_run_settings("/bin/sh", say), replicas=6)
        exp.start(*models, plain, quiet=True)
        tell(states=exp.get_status(*models, plain), out=[Path(m.path, m.name + ".out").read_text().split() for m in [*models, *plain]])
        """,
        *("salloc", "--quiet", "-N1", "-c2", ":", "-N2", "-c2"),
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 8
    both, second, *plain = told["out"]
    assert "n1" in both
    assert set(both) & {"n2", "n3"}
    assert sorted(second) == ["n2", "n3"]
    assert {node for out in plain for node in out} <= {"n1", "n2", "n3"}


def test_steps_that_a_killed_srun_leaves_in_other_components_have_ended_before_the_next_attempt(drive: Drive) -> None:
    driver = drive(
        """
        import signal
        exp = Experiment("left", launcher="slurm")
        say = ["-c", "echo $SLURMD_NODENAME; test $TASKENSEMBLE_ATTEMPT = 2 || sleep 300"]
        second, both = exp.create_run_settings("/bin/sh", say), exp.create_run_settings("/bin/sh", say)
        second.set_het_group([1])
        both.set_het_group([0, 1])
        models = [exp.create_model("second", second, retries=1), exp.create_model("both", both, retries=1)]
        run = exp.start(*models, block=False, quiet=True)
        # `both` runs on three nodes, `second` on one of two.
        while sum(path.read_text().count("n") for path in Path("left").glob("*/*.out")) < 4:
            time.sleep(0.1)
        steps = lambda: os.popen("squeue --steps --noheader --format=%i%j").read().count(str(os.getpid()))
        before = steps()
        for line in os.popen("ps -eo pid,args").read().splitlines():
            pid, program, *_ = line.split()
            if program.endswith("/srun") and f"--job-name=local-{os.getpid()}-" in line:
                os.kill(int(pid), signal.SIGKILL)
        run.wait()
        tell(states=exp.get_status(*models), before=before, after=steps(), attempts=[row["attempt"] for row in exp.results()])
        """,
        *("salloc", "--quiet", "-N1", "-c2", ":", "-N2", "-c2"),
    )
    told = driver.result()
    assert told["before"] == 3
    assert told["states"] == ["Completed"] * 2
    assert told["attempts"] == [2, 2]
    assert told["after"] == 0


KEPT = """
        exp = Experiment("kept", launcher="slurm")
        rs = exp.create_run_settings("/bin/sh", ["-c", "echo $SLURM_JOB_ID $SLURM_STEP_ID $SLURMD_NODENAME"])
        ens = exp.create_ensemble("e", run_settings=rs, replicas=4, resources={"cpus": 4})
        run = exp.start(ens, block=False, quiet=True)
"""


@pytest.fixture
def kept(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Path]:
    """A folder with the control plane of `taskensemble up` and its worker, on the login node."""
    environment = {**slurm.environment, "PYTHONPATH": str(REPOSITORY)}

    def taskensemble(*arguments: str) -> None:
        command = [sys.executable, "-m", "taskensemble", *arguments, "--path", str(tmp_path)]
        subprocess.run(command, env=environment, check=True, timeout=90, stdout=subprocess.DEVNULL)

    taskensemble("up", "--slots", "2")
    yield tmp_path
    taskensemble("down")


def test_members_of_a_driver_in_an_allocation_run_there_although_a_kept_worker_is_on_the_login_node(
    drive: Drive, kept: Path
) -> None:
    driver = drive(
        f"""
        os.chdir({str(kept)!r})
        {KEPT}
        run.wait()
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text().split() for m in ens],
             job=os.environ["SLURM_JOB_ID"])
        exp.start(exp.create_model("last", rs), block=False)
        """,
        *ALLOCATE,
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 4
    assert {out[0] for out in told["out"]} == {told["job"]}
    assert {out[2] for out in told["out"]} == {"n1", "n2"}
    assert driver.end() == 0
    assert "the driver has ended; waiting for the run" in "".join(driver.lines)


def test_a_kept_worker_on_the_login_node_takes_no_member_of_a_clusters_launcher_and_the_driver_says_so(
    drive: Drive, kept: Path
) -> None:
    driver = drive(
        f"""
        os.chdir({str(kept)!r})
        {KEPT}
        while "allocation" not in (said := run.waits()).get(0, ""):
            time.sleep(0.2)
        state = run.status()
        exp.stop(ens)
        tell(queued=state.queued, said=said[0])
        """
    )
    told = driver.result()
    assert told["queued"] == 4
    assert "a worker in an allocation; those that are registered are in none" in told["said"]
    assert driver.end() == 0
    assert "`taskensemble scale` asks for allocations" in "".join(driver.lines)
