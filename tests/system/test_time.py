"""Members that say how long they need: an allocation that has less time left does not begin them, the next one does."""

# ruff: noqa: E501 - drivers are written as a user writes them, in strings.

from __future__ import annotations

from tests.system.conftest import Drive
from tests.system.slurm_cluster import SlurmCluster, wait_until
from tests.system.test_scale import Scale, scale  # noqa: F401 - a fixture

# Runs until its job has less than 95 of its 120 s left.
UNTIL_LATE = """
while [ $(squeue --noheader --jobs=$SLURM_JOB_ID --format=%M | awk -F: '{print $1 * 60 + $2}') -lt 26 ]; do sleep 1; done
echo $SLURM_JOB_ID
"""


def test_a_member_that_needs_more_time_than_its_job_has_left_waits_for_the_next_one(drive: Drive) -> None:
    driver = drive(
        f"""
        exp = Experiment("timed", launcher="slurm", interface="lo")
        bs = exp.create_batch_settings(nodes=1, time="00:02:00", batch_args={{"exclusive": None}}, requeue=1)
        rs = exp.create_run_settings("/bin/sh", ["-c", {UNTIL_LATE!r}])
        ens = exp.create_ensemble("e", run_settings=rs, batch_settings=bs, replicas=2, resources={{"cpus": 4, "time": "00:01:40"}})
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens), jobs=[Path(m.path, m.name + ".out").read_text().split() for m in ens],
             attempts=[row["attempt"] for row in exp.results()])
        """
    )
    told = driver.result(240)
    assert told["states"] == ["Completed"] * 2
    assert told["attempts"] == [1, 1]
    assert told["jobs"][0] != told["jobs"][1]
    assert "it is submitted again" in "".join(driver.lines)


def test_allocations_that_come_and_go_are_asked_for_anew_when_the_first_has_too_little_time_left(
    drive: Drive,
    slurm: SlurmCluster,
    valkey: str,
    scale: Scale,  # noqa: F811
) -> None:
    scale.describe(time="00:02:00")
    scale.start(most=1)
    driver = drive(
        f"""
        exp = Experiment("scaled", launcher="slurm")
        rs = exp.create_run_settings("/bin/sh", ["-c", {UNTIL_LATE!r}])
        ens = exp.create_ensemble("e", run_settings=rs, replicas=2, resources={{"cpus": 4, "time": 100}})
        run = exp.start(ens, block=False, quiet=True)
        said = set()
        while not run.finished():
            said |= set(run.waits().values())
            time.sleep(0.5)
        tell(states=exp.get_status(ens), jobs=[Path(m.path, m.name + ".out").read_text().split() for m in ens], said=sorted(said))
        """,
        TASKENSEMBLE_BROKER_URL=valkey,
    )
    told = driver.result(240)
    assert told["states"] == ["Completed"] * 2, scale.log()
    assert told["jobs"][0] != told["jobs"][1]
    assert any("1:40 min of an allocation; the one that lasts longest has 1:" in reason for reason in told["said"])
    assert "members run in allocations alone" in "".join(driver.lines)
    wait_until(lambda: not slurm.jobs(), 120, f"idle allocations end\n{scale.log()}")


def test_a_member_that_needs_more_time_than_the_drivers_allocation_has_is_refused(drive: Drive) -> None:
    driver = drive(
        """
        from taskensemble.errors import AllocationError, InputError
        exp = Experiment("long", launcher="slurm")
        rs = exp.create_run_settings("/bin/true")
        said = []
        for entity in (
            exp.create_model("m", rs, resources={"time": "01:00:00"}),
            exp.create_ensemble("e", run_settings=rs, replicas=2, resources={"time": 600},
                                batch_settings=exp.create_batch_settings(nodes=1, time="00:09:00")),
        ):
            try:
                exp.start(entity)
            except (AllocationError, InputError) as error:
                said.append(str(error))
        exp.start(exp.create_model("short", rs, resources={"time": 30}), quiet=True)
        tell(said=said)
        """,
        *("salloc", "--quiet", "-N1", "--time=5"),
    )
    allocation, job = driver.result()["said"]
    assert "asks for time=3600 s, but the allocation" in allocation
    assert "time=600 s of 'e' is more than the 540 s that its batch job asks for" in job
