"""Batch jobs on a real Grid Engine: an ensemble in a job of its own, and every way in which the job can end."""

# ruff: noqa: E501 - drivers are written as a user writes them, in strings.

from __future__ import annotations

from tests.system.conftest import Drive, check_successor, survivor
from tests.system.sge_cluster import GridEngine
from tests.system.slurm_cluster import wait_until

SETTINGS = """
def settings(exp, **more):
    bs = exp.create_batch_settings(ncpus=4, pe_type="smp", time="00:05:00", **more)
    bs.add_preamble(["export FROM_PREAMBLE=yes", "export PYTHONPATH=" + os.environ["PYTHONPATH"]])
    return bs
"""


def script(text: str) -> str:
    """A driver with the batch settings that all tests here share."""
    import textwrap

    return SETTINGS + textwrap.dedent(text)


def test_an_ensemble_runs_side_by_side_in_one_job_which_ends_with_it(drive_sge: Drive, grid_engine: GridEngine) -> None:
    driver = drive_sge(
        script("""
        exp = Experiment("batch", launcher="sge")
        rs = exp.create_run_settings("/bin/sh", ["-c", "echo $FROM_PREAMBLE $JOB_ID $NSLOTS $JOB_NAME; sleep 1"], run_command=None)
        ens = exp.create_ensemble("2D sweep", batch_settings=settings(exp), run_settings=rs, replicas=8)
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text().split() for m in ens])
        """)
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 8, driver.logs()
    assert {(out[0], out[2], out[3]) for out in told["out"]} == {("yes", "4", "j2D_sweep")}
    assert len({out[1] for out in told["out"]}) == 1
    assert driver.end() == 0, driver.logs()
    wait_until(lambda: not grid_engine.jobs(), 60, f"the job ends with its work{driver.logs()}")


def test_stop_cancels_a_job_that_runs(drive_sge: Drive, grid_engine: GridEngine) -> None:
    driver = drive_sge(
        script("""
        exp = Experiment("stop", launcher="sge")
        rs = exp.create_run_settings("/bin/sleep", "300", run_command=None)
        ens = exp.create_ensemble("long", batch_settings=settings(exp), run_settings=rs, replicas=2)
        exp.start(ens, block=False, quiet=True)
        while exp.get_status(ens).count("Running") < 2:
            time.sleep(0.1)
        tell(running=True)
        exp.stop(ens)
        tell(states=exp.get_status(ens))
        """)
    )
    driver.result()
    assert len(grid_engine.jobs()) == 1
    assert driver.result()["states"] == ["Cancelled"] * 2
    assert driver.end() == 0, driver.logs()
    wait_until(lambda: not grid_engine.jobs(), 60, f"the job leaves the queue{driver.logs()}")


def test_stop_takes_a_job_that_waits_out_of_the_queue(drive_sge: Drive, grid_engine: GridEngine) -> None:
    driver = drive_sge(
        script("""
        exp = Experiment("waits", launcher="sge")
        rs = exp.create_run_settings("/bin/true", run_command=None)
        ens = exp.create_ensemble("e", batch_settings=settings(exp, batch_args={"hold_jid": "holder"}), run_settings=rs, replicas=2)
        exp.start(ens, block=False, quiet=True)
        tell(states=exp.get_status(ens))
        exp.stop(ens)
        tell(states=exp.get_status(ens))
        """)
    )
    holder = grid_engine.run("qsub", "-terse", "-N", "holder", "-b", "y", "-o", "/dev/null", "-j", "y", "sleep", "300")
    driver.result()
    assert len(grid_engine.jobs()) == 2
    assert driver.result()["states"] == ["Cancelled"] * 2
    assert driver.end() == 0, driver.logs()
    wait_until(lambda: list(grid_engine.jobs()) == [holder.strip()], 60, f"the job leaves the queue{driver.logs()}")


SURVIVOR = survivor("JOB_ID")


def test_a_deleted_job_leaves_nothing_behind_and_requeue_asks_for_another(
    drive_sge: Drive, grid_engine: GridEngine
) -> None:
    driver = drive_sge(
        script(f"""
        exp = Experiment("again", launcher="sge")
        rs = exp.create_run_settings("/bin/sh", ["-c", {SURVIVOR!r}], run_command=None)
        ens = exp.create_ensemble("e", batch_settings=settings(exp, requeue=1), run_settings=rs, replicas=2)
        handle = exp.start(ens, block=False, quiet=True)
        while not all(Path(m.path, "second").exists() for m in ens):
            time.sleep(0.1)
        tell(running=True)
        handle.wait()
        tell(states=exp.get_status(ens), traces=[Path(m.path, "trace").read_text().split() for m in ens])
        """)
    )
    driver.result()
    (first,) = grid_engine.jobs()
    grid_engine.run("qdel", first)
    told = driver.result(timeout=200)
    assert told["states"] == ["Completed"] * 2
    for trace in told["traces"]:
        assert trace[1] == "1"
        assert trace[3] == first
        assert trace[5] == "2"
        assert trace[7] != first
    assert driver.end() == 0, driver.logs()


def test_a_job_with_notify_asks_for_its_successor_itself_when_no_driver_is_there(
    drive_sge: Drive, grid_engine: GridEngine, valkey: str
) -> None:
    driver = drive_sge(
        script(f"""
        exp = Experiment("orphan", launcher="sge")
        rs = exp.create_run_settings("/bin/sh", ["-c", {SURVIVOR!r}], run_command=None)
        bs = settings(exp, requeue=1, batch_args={{"notify": None}})
        bs.add_preamble([f"export {{name}}={{os.environ[name]}}" for name in ("SGE_QMASTER_PORT", "SGE_EXECD_PORT", "PATH")])
        ens = exp.create_ensemble("e", batch_settings=bs, run_settings=rs, replicas=2)
        handle = exp.start(ens, block=False, quiet=True)
        while not all(Path(m.path, "second").exists() for m in ens):
            time.sleep(0.1)
        tell(run=handle.run_id, paths=[m.path for m in ens])
        time.sleep(300)
        """),
        TASKENSEMBLE_BROKER_URL=valkey,
    )
    check_successor(driver, grid_engine, "qdel", valkey)


def test_a_job_that_grid_engine_refuses_is_an_error_at_start_with_what_it_said(
    drive_sge: Drive, grid_engine: GridEngine
) -> None:
    driver = drive_sge(
        """
        from taskensemble.errors import AllocationError
        exp = Experiment("refused", launcher="sge")
        model = exp.create_model("m", exp.create_run_settings("/bin/true", run_command=None),
                                 batch_settings=exp.create_batch_settings(ncpus=2, pe_type="nowhere"))
        try:
            exp.start(model, quiet=True)
        except AllocationError as error:
            tell(error=str(error))
        """
    )
    assert 'the requested parallel environment "nowhere" does not exist' in driver.result()["error"]
    assert driver.end() == 0, driver.logs()
    assert not grid_engine.jobs()
