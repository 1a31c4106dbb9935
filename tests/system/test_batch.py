"""Entities with batch settings: a job of their own, its members side by side inside, and every way in which it can end."""

# ruff: noqa: E501 - drivers are written as a user writes them, in strings.

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.system.conftest import REPOSITORY, Drive, check_successor, survivor
from tests.system.slurm_cluster import NODES, SlurmCluster, wait_until


def test_an_ensemble_runs_side_by_side_in_one_job_which_ends_with_it(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(
        """
        exp = Experiment("batch", launcher="slurm")
        bs = exp.create_batch_settings(nodes=2, time="00:05:00", batch_args={"exclusive": None})
        bs.add_preamble(["export FROM_PREAMBLE=yes", "export PATH=/opt/preamble/bin:$PATH"])
        rs = exp.create_run_settings("/bin/sh", ["-c", "echo $SLURMD_NODENAME $FROM_PREAMBLE $PATH $SLURM_JOB_ID; sleep 1"])
        ens = exp.create_ensemble("sweep", batch_settings=bs, run_settings=rs, replicas=8)
        exp.start(ens, quiet=True)
        job = os.popen("squeue --noheader --format=%i").read().split()
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text().split() for m in ens])
        """
    )
    told = driver.result()
    assert told["states"] == ["Completed"] * 8
    assert {out[0] for out in told["out"]} == {"n1", "n2"}
    assert {out[1] for out in told["out"]} == {"yes"}
    assert all(out[2].startswith("/opt/preamble/bin:") for out in told["out"])
    jobs = {out[3] for out in told["out"]}
    assert len(jobs) == 1
    assert driver.end() == 0
    wait_until(lambda: not slurm.jobs(), 30, "the job ends with its work")
    assert slurm.job(jobs.pop())["JobState"] == "COMPLETED"


LAPTOP = '"throws", launcher="local")'
LOGIN_NODE = '"throws", launcher="slurm", interface="lo")'
SETTINGS = "    run_settings=program,\n"
JOB = (
    SETTINGS
    + '    batch_settings=exp.create_batch_settings(nodes=2, time="00:30:00", batch_args={"exclusive": None}),\n'
)


def test_the_laptops_driver_runs_in_a_job_with_the_two_changes_of_the_manual(drive: Drive, tmp_path: Path) -> None:
    """docs/clusters/slurm.md, with the network of a cluster whose nodes are one machine."""
    shutil.copytree(REPOSITORY / "examples" / "get_started", tmp_path / "user")
    laptop = (tmp_path / "user" / "driver.py").read_text()
    assert LAPTOP in laptop
    assert SETTINGS in laptop
    changed = laptop.replace(LAPTOP, LOGIN_NODE).replace(SETTINGS, JOB)
    driver = drive(f"os.chdir({str(tmp_path / 'user')!r})\n{changed}")
    assert driver.end() == 0, driver.lines
    heights = [line.split(" -> ")[1] for line in driver.lines if " -> " in line]
    assert (len(heights), heights[0], heights[-1]) == (9, "5.10 m\n", "14.25 m\n")


def test_a_driver_outside_of_an_allocation_is_told_what_to_do_and_a_jobs_unreachable_database_is_warned_of(
    drive: Drive,
) -> None:
    driver = drive(
        """
        from taskensemble.errors import AllocationError
        exp = Experiment("outside", launcher="slurm", interface="lo")
        rs = exp.create_run_settings("/bin/true")
        try:
            exp.start(exp.create_ensemble("nowhere", replicas=2, run_settings=rs))
        except AllocationError as error:
            tell(error=str(error))
        db = exp.create_database(port=0)
        ens = exp.create_ensemble("job", run_settings=rs, replicas=2, batch_settings=exp.create_batch_settings(nodes=1, time="00:05:00"))
        exp.start(db, ens, quiet=True)
        exp.stop(db)
        tell(states=exp.get_status(ens))
        """
    )
    told = driver.result()["error"]
    assert "no batch settings were given for 'nowhere'" in told
    assert "salloc -N 1 python driver.py" in told
    assert driver.result()["states"] == ["Completed"] * 2
    assert "The database orchestrator listens on 127.0.0.1 alone: members in jobs" in "".join(driver.lines)


def test_hand_added_models_of_different_programs_share_one_job(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("mixed", launcher="slurm")
        ens = exp.create_ensemble("mixed", batch_settings=exp.create_batch_settings(nodes=2, time="00:05:00"))
        wide = exp.create_run_settings("/bin/sh", ["-c", "echo wide $SLURMD_NODENAME $SLURM_JOB_ID"])
        wide.set_nodes(2)
        wide.set_tasks(2)
        ens.add_model(exp.create_model("wide", wide))
        ens.add_model(exp.create_model("narrow", exp.create_run_settings("/bin/sh", ["-c", "echo narrow; exit 4"])))
        exp.start(ens, quiet=True)
        rows = {row["name"]: row for row in exp.results()}
        tell(states=exp.get_status(ens), code=rows["narrow"]["returncode"],
             out=[Path(m.path, m.name + ".out").read_text() for m in ens])
        """
    )
    told = driver.result()
    assert told["states"] == ["Completed", "Failed"]
    assert told["code"] == 4
    assert sorted(line.split()[1] for line in told["out"][0].splitlines()) == ["n1", "n2"]
    assert told["out"][1] == "narrow\n"


def test_no_password_appears_in_a_script_or_an_argument_list(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(
        """
        exp = Experiment("secret", launcher="slurm")
        bs = exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={"exclusive": None})
        model = exp.create_model("m", exp.create_run_settings("/bin/sh", ["-c", "cat /proc/[0-9]*/cmdline | tr '\\\\0' ' '; sleep 1"]), batch_settings=bs)
        exp.start(model, quiet=True)
        jobs = Path(exp.exp_path, ".taskensemble", "jobs")
        password = json.loads(Path(exp.exp_path, ".taskensemble", "control.json").read_text())["password"]
        tell(password=password, states=exp.get_status(model), argv=Path(model.path, "m.out").read_text(errors="replace"),
             scripts=[p.read_text() for p in jobs.glob("*.sh")], modes=[oct(p.stat().st_mode & 0o777) for p in jobs.glob("*.json")])
        """
    )
    told = driver.result()
    assert told["states"] == ["Completed"]
    assert told["scripts"]
    assert all(told["password"] not in text for text in [*told["scripts"], told["argv"]])
    assert told["modes"] == ["0o600"]


def test_stop_cancels_a_job_that_runs(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(
        """
        exp = Experiment("stop", launcher="slurm")
        ens = exp.create_ensemble("long", batch_settings=exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={"exclusive": None}),
                                  run_settings=exp.create_run_settings("/bin/sleep", "300"), replicas=2)
        exp.start(ens, block=False, quiet=True)
        while exp.get_status(ens).count("Running") < 2:
            time.sleep(0.1)
        tell(running=True)
        exp.stop(ens)
        tell(states=exp.get_status(ens))
        """
    )
    driver.result()
    assert len(slurm.jobs()) == 1
    assert driver.result()["states"] == ["Cancelled"] * 2
    assert driver.end() == 0
    wait_until(lambda: not slurm.jobs(), 20, "the job leaves the queue")


def test_stop_takes_a_job_that_waits_out_of_the_queue(drive: Drive, slurm: SlurmCluster) -> None:
    holder = slurm.run(
        "sbatch", "--parsable", f"-N{len(NODES)}", "--exclusive", "--output=/dev/null", "--wrap", "sleep 300"
    ).strip()
    driver = drive(
        """
        exp = Experiment("waits", launcher="slurm")
        ens = exp.create_ensemble("e", batch_settings=exp.create_batch_settings(nodes=2, time="00:05:00"),
                                  run_settings=exp.create_run_settings("/bin/true"), replicas=2)
        exp.start(ens, block=False, quiet=True)
        tell(states=exp.get_status(ens))
        exp.stop(ens)
        tell(states=exp.get_status(ens))
        """
    )
    driver.result()
    assert len(slurm.jobs()) == 2
    assert driver.result()["states"] == ["Cancelled"] * 2
    assert driver.end() == 0
    assert list(slurm.jobs()) == [holder]


SURVIVOR = survivor("SLURM_JOB_ID")


@pytest.mark.parametrize("cancel", [("scancel",), ("scancel", "--batch", "--signal=USR1")])
def test_a_cancelled_job_gives_its_members_back_and_requeue_asks_for_another(
    drive: Drive, slurm: SlurmCluster, cancel: tuple[str, ...]
) -> None:
    """USR1 is what users let Slurm send some time before the walltime: `--signal=B:USR1@60`."""
    driver = drive(
        f"""
        exp = Experiment("again", launcher="slurm")
        bs = exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={{"exclusive": None}}, requeue=1)
        rs = exp.create_run_settings("/bin/sh", ["-c", {SURVIVOR!r}])
        ens = exp.create_ensemble("e", batch_settings=bs, run_settings=rs, replicas=2)
        handle = exp.start(ens, block=False, quiet=True)
        while not all(Path(m.path, "second").exists() for m in ens):
            time.sleep(0.1)
        tell(running=True)
        handle.wait()
        tell(states=exp.get_status(ens), traces=[Path(m.path, "trace").read_text().split() for m in ens])
        """
    )
    driver.result()
    (first,) = slurm.jobs()
    slurm.run(*cancel, first)
    told = driver.result()
    assert told["states"] == ["Completed"] * 2
    for trace in told["traces"]:
        assert trace[1] == "1"
        assert trace[3] == first
        assert trace[5] == "2"
        assert trace[7] != first
    assert driver.end() == 0


def test_a_walltime_gives_members_back_and_requeue_asks_for_another(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(
        f"""
        exp = Experiment("walltime", launcher="slurm")
        bs = exp.create_batch_settings(nodes=1, time="00:10:00", requeue=1)
        rs = exp.create_run_settings("/bin/sh", ["-c", {SURVIVOR!r}])
        model = exp.create_model("m", rs, batch_settings=bs)
        handle = exp.start(model, block=False, quiet=True)
        while not Path(model.path, "second").exists():
            time.sleep(0.1)
        tell(running=True)
        handle.wait()
        tell(states=exp.get_status(model), rows=exp.results(), trace=Path(model.path, "trace").read_text().split())
        """
    )
    driver.result()
    # Slurm counts whole minutes: the limit of the first job comes down to one when its member runs, however late that was.
    (first,) = slurm.jobs()
    slurm.run("scontrol", "update", f"JobId={first}", "TimeLimit=1")
    told = driver.result(timeout=240)
    assert told["states"] == ["Completed"], f"{told['rows']}{driver.logs()}"
    assert told["trace"][1] == "1"
    assert told["trace"][5] == "2"
    assert told["trace"][3] == first
    assert slurm.job(first)["JobState"] == "TIMEOUT"
    assert slurm.job(told["trace"][7])["JobState"] in ("COMPLETED", "RUNNING", "COMPLETING")


UNTIL_GO = """
echo attempt $TASKENSEMBLE_ATTEMPT job $SLURM_JOB_ID >> trace
if [ -e ../../go ]; then exit 0; fi
touch second; sleep 300
"""


def test_members_of_a_job_that_makes_room_for_an_urgent_one_go_on_in_the_next(
    drive: Drive, slurm: SlurmCluster
) -> None:
    """Slurm tells the steps at once, and the job when the partition's grace time is over."""
    driver = drive(
        f"""
        exp = Experiment("preempted", launcher="slurm")
        bs = exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={{"exclusive": None}}, requeue=1)
        rs = exp.create_run_settings("/bin/sh", ["-c", {UNTIL_GO!r}])
        ens = exp.create_ensemble("e", batch_settings=bs, run_settings=rs, replicas=6)
        handle = exp.start(ens, block=False, quiet=True)
        while sum(Path(m.path, "second").exists() for m in ens) < 4:
            time.sleep(0.1)
        Path(exp.exp_path, "go").touch()
        tell(running=True)
        handle.wait()
        tell(states=exp.get_status(ens), rows=exp.results(), traces=[Path(m.path, "trace").read_text().split() for m in ens])
        """
    )
    driver.result()
    (first,) = slurm.jobs()
    slurm.run("sbatch", "-p", "urgent", f"-N{len(NODES)}", "--exclusive", "--output=/dev/null", "--wrap", "sleep 2")
    told = driver.result()
    assert told["states"] == ["Completed"] * 6, f"{told['rows']}{driver.logs()}"
    assert slurm.job(first)["JobState"] == "PREEMPTED"
    traces = told["traces"]
    begun = [trace for trace in traces if trace[3] == first]
    assert len(begun) == 4  # what waited did not begin in a job that ends
    assert all(trace[5] == "2" and trace[7] != first for trace in begun)


def test_a_job_that_ends_early_without_requeue_cancels_what_is_left_and_says_why(
    drive: Drive, slurm: SlurmCluster
) -> None:
    driver = drive(
        """
        exp = Experiment("early", launcher="slurm")
        ens = exp.create_ensemble("e", batch_settings=exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={"exclusive": None}),
                                  run_settings=exp.create_run_settings("/bin/sleep", "300"), replicas=6)
        handle = exp.start(ens, block=False, quiet=True)
        while exp.get_status(ens).count("Running") < 4:
            time.sleep(0.1)
        tell(running=True)
        handle.wait()
        tell(states=exp.get_status(ens), reason=handle.status().reason, rows=exp.results())
        """
    )
    driver.result()
    slurm.run("scancel", *slurm.jobs())
    told = driver.result()
    assert told["states"] == ["Cancelled"] * 6, [(row["state"], row["reason"]) for row in told["rows"]]
    assert driver.end() == 0


def test_a_job_that_the_scheduler_refuses_is_an_error_at_start_with_what_it_said(
    drive: Drive, slurm: SlurmCluster
) -> None:
    driver = drive(
        """
        from taskensemble.errors import AllocationError
        exp = Experiment("refused", launcher="slurm")
        model = exp.create_model("m", exp.create_run_settings("/bin/true"),
                                 batch_settings=exp.create_batch_settings(nodes=1, queue="nowhere"))
        try:
            exp.start(model, quiet=True)
        except AllocationError as error:
            tell(error=str(error))
        """
    )
    assert "invalid partition" in driver.result()["error"].lower()
    assert driver.end() == 0
    assert not slurm.jobs()


def test_a_preview_shows_the_script_that_a_start_submits(drive: Drive) -> None:
    driver = drive(
        """
        exp = Experiment("preview", launcher="slurm")
        bs = exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={"exclusive": None})
        bs.add_preamble("module() { true; }; module load something")
        model = exp.create_model("m", exp.create_run_settings("/bin/true"), batch_settings=bs)
        shown = exp.preview(model, verbosity_level="debug")
        tell(shown=shown, made=os.path.exists(exp.exp_path))
        exp.start(model, quiet=True)
        (script,) = Path(exp.exp_path, ".taskensemble", "jobs").glob("*.sh")
        tell(script=script.read_text())
        """
    )
    told = driver.result()
    assert not told["made"]
    script = driver.result()["script"]
    for line in script.splitlines():
        if (line.startswith("#SBATCH") and "/jobs/" not in line) or "module load" in line:
            assert line in told["shown"]


def test_a_run_on_a_broker_goes_on_in_its_job_when_the_driver_is_killed(
    drive: Drive, slurm: SlurmCluster, valkey: str
) -> None:
    driver = drive(
        """
        exp = Experiment("alone", launcher="slurm")
        ens = exp.create_ensemble("e", batch_settings=exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={"exclusive": None}),
                                  run_settings=exp.create_run_settings("/bin/sh", ["-c", "sleep 3; echo done"]), replicas=2)
        handle = exp.start(ens, block=False, quiet=True)
        while exp.get_status(ens).count("Running") < 2:
            time.sleep(0.1)
        tell(run=handle.run_id)
        time.sleep(300)
        """,
        TASKENSEMBLE_BROKER_URL=valkey,
    )
    run_id = driver.result()["run"]
    driver.process.kill()
    second = drive(
        f"""
        exp = Experiment("alone", launcher="slurm")
        handle = exp.reconnect({run_id!r})
        tell(status=handle.wait(timeout=60).completed)
        """,
        TASKENSEMBLE_BROKER_URL=valkey,
    )
    assert second.result()["status"] == 2
    assert second.end() == 0
    wait_until(lambda: not slurm.jobs(), 30, "the job ends with its work")


def test_a_job_that_ends_early_asks_for_its_successor_itself_when_no_driver_is_there(
    drive: Drive, slurm: SlurmCluster, valkey: str
) -> None:
    driver = drive(
        f"""
        exp = Experiment("orphan", launcher="slurm")
        bs = exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={{"exclusive": None}}, requeue=1)
        ens = exp.create_ensemble("e", batch_settings=bs, run_settings=exp.create_run_settings("/bin/sh", ["-c", {SURVIVOR!r}]), replicas=2)
        handle = exp.start(ens, block=False, quiet=True)
        while not all(Path(m.path, "second").exists() for m in ens):
            time.sleep(0.1)
        tell(run=handle.run_id, paths=[m.path for m in ens])
        time.sleep(300)
        """,
        TASKENSEMBLE_BROKER_URL=valkey,
    )
    check_successor(driver, slurm, "scancel", valkey)


def test_the_manuals_drivers_run_as_they_are(drive: Drive) -> None:
    examples = REPOSITORY / "examples" / "clusters"
    batch = drive((examples / "batch.py").read_text())
    assert batch.end(90) == 0, batch.logs()
    assert "".join(batch.lines).count("Completed") >= 6
    inside = drive((examples / "inside.py").read_text(), "salloc", "--quiet", "-N2", "--exclusive")
    assert inside.end(90) == 0, inside.logs()
    assert "".join(inside.lines).count("Completed") >= 9


def test_what_a_cancelled_job_left_runs_in_a_job_of_its_own_when_it_is_resumed(
    drive: Drive, slurm: SlurmCluster
) -> None:
    driver = drive(
        """
        exp = Experiment("again", launcher="slurm", interface="lo")
        rs = exp.create_run_settings("/bin/sh", ["-c", "echo $SLURM_JOB_ID; test -e ../go || sleep 300"])
        bs = exp.create_batch_settings(nodes=1, time="00:05:00")
        ens = exp.create_ensemble("e", run_settings=rs, batch_settings=bs, replicas=2)
        run = exp.start(ens, block=False, quiet=True)
        while not exp.get_status(ens).count("Running"):
            time.sleep(0.1)
        job = os.popen("squeue --noheader --format=%i").read().strip()
        os.system(f"scancel {job}")
        run.wait()
        tell(states=exp.get_status(ens), job=job, run=run.run_id)
        """
    )
    told = driver.result()
    assert told["states"] == ["Cancelled"] * 2
    assert driver.end() == 0
    (driver.folder / "again" / "e" / "go").touch()
    second = drive(
        f"""
        os.chdir({str(driver.folder)!r})
        exp = Experiment("again", launcher="slurm", interface="lo")
        run = exp.resume({told["run"]!r}, quiet=True)
        tell(ended=run.status().completed, jobs=[Path("again", "e", f"e_{{i}}", f"e_{{i}}.out").read_text().split() for i in (0, 1)])
        """
    )
    again = second.result()
    assert again["ended"] == 2
    assert told["job"] not in {job for jobs in again["jobs"] for job in jobs}
    assert second.end() == 0
    wait_until(lambda: not slurm.jobs(), 30, "the job ends with its work")
