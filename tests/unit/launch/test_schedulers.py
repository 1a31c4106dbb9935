"""Schedulers: their answers, as psij and we read them; and what a job's files say.

The answers of Grid Engine were recorded from the 8.1.9 that tests/system starts. Those of PBS and LSF are written in the formats
that their manuals document; none was recorded at a site.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from psij import Job, JobSpec, JobState
from psij.exceptions import SubmitException
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig, InvalidJobStateError

from taskensemble.engine.allocation import BatchRecord
from taskensemble.engine.records import RunRecord
from taskensemble.errors import AllocationError
from taskensemble.launch.batch import BatchJob, BatchJobs, JobFile, JobPaths, job_script, read_job
from taskensemble.launch.schedulers import SlurmScheduler, _executor, job_name, parse_qstat_xml, query

SQUEUE = """JOBARRAYID          ST                  REASON
1                   PD                  (Nodes required for job are DOWN, DRAINED)
2                   R                   None
3                   TO                  TimeLimit
4                   CA                  None
5                   XX                  None
"""
BJOBS = """{"COMMAND":"bjobs","JOBS":2,"RECORDS":[
  {"JOBID":"25","STAT":"RUN","EXIT_REASON":"","KILL_REASON":"","SUSPEND_REASON":""},
  {"JOBID":"26","STAT":"PEND","EXIT_REASON":"","KILL_REASON":"","SUSPEND_REASON":""},
  {"JOBID":"28","STAT":"DONE","EXIT_REASON":"","KILL_REASON":"","SUSPEND_REASON":""},
  {"JOBID":"29","STAT":"SSUSP","EXIT_REASON":"","KILL_REASON":"","SUSPEND_REASON":"load"},
  {"JOBID":"30","ERROR":"Job <30> is not found"},
  {"JOBID":"27","STAT":"EXIT","EXIT_REASON":"TERM_RUNLIMIT: job killed","KILL_REASON":"","SUSPEND_REASON":""}]}"""
QSTAT_PBS = """{"timestamp":1,"pbs_version":"20.0.1","pbs_server":"s","Jobs":{
  "11.s":{"Job_Name":"a","job_state":"R","comment":"Job run at Mon Nov 02 at 10:11 on (n1:ncpus=4)"},
  "12.s":{"Job_Name":"b","job_state":"Q","comment":"Not Running: Insufficient amount of resource: ncpus"},
  "13.s":{"Job_Name":"c","job_state":"H"},"14.s":{"Job_Name":"d","job_state":"E"},
  "15.s":{"Job_Name":"e","job_state":"F","Exit_status":0},"16.s":{"Job_Name":"f","job_state":"F","Exit_status":1},
  "17.s":{"Job_Name":"g","job_state":"F","Exit_status":271},"18.s":{"Job_Name":"h","job_state":"F","Exit_status":265},
  "19.s":{"Job_Name":"i","job_state":"?"}}}"""
QSTAT_SGE = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>5</JB_job_number>
      <JAT_prio>0.25000</JAT_prio>
      <JB_name>plate</JB_name>
      <JB_owner>root</JB_owner>
      <state>r</state>
      <JAT_start_time>2026-11-22T22:32:43</JAT_start_time>
      <queue_name>all.q@vm</queue_name>
      <slots>2</slots>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>8</JB_job_number>
      <JAT_prio>0.75000</JAT_prio>
      <JB_name>wait</JB_name>
      <JB_owner>root</JB_owner>
      <state>qw</state>
      <JB_submission_time>2026-11-22T22:32:43</JB_submission_time>
      <queue_name></queue_name>
      <slots>4</slots>
    </job_list>
    <job_list state="pending">
      <JB_job_number>6</JB_job_number>
      <JAT_prio>0.25000</JAT_prio>
      <JB_name>broken</JB_name>
      <JB_owner>root</JB_owner>
      <state>Eqw</state>
      <JB_submission_time>2026-11-22T22:32:43</JB_submission_time>
      <queue_name></queue_name>
      <slots>1</slots>
    </job_list>
    <job_list state="pending">
      <JB_job_number>7</JB_job_number>
      <JAT_prio>0.00000</JAT_prio>
      <JB_name>held</JB_name>
      <JB_owner>root</JB_owner>
      <state>hqw</state>
      <JB_submission_time>2026-11-22T22:32:43</JB_submission_time>
      <queue_name></queue_name>
      <slots>1</slots>
    </job_list>
  </job_info>
</job_info>
"""
QSTAT_SGE_STARTING = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>1</JB_job_number>
      <JAT_prio>0.50000</JAT_prio>
      <JB_name>plate</JB_name>
      <JB_owner>root</JB_owner>
      <state>t</state>
      <JAT_start_time>2026-11-22T22:25:19</JAT_start_time>
      <queue_name>all.q@vm</queue_name>
      <slots>2</slots>
    </job_list>
  </queue_info>
  <job_info>
  </job_info>
</job_info>
"""
QSTAT_SGE_EMPTY = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
  </queue_info>
  <job_info>
  </job_info>
</job_info>
"""


@pytest.mark.parametrize(
    ("scheduler", "answer", "job_id"),
    [
        ("slurm", "Submitted batch job 4711\n", "4711"),
        ("pbs", "1234.pbs01\n", "1234.pbs01"),
        ("lsf", "Job <25> is submitted to queue <normal>.\n", "25"),
        ("sge", 'Your job 5 ("plate") has been submitted\n', "5"),
    ],
)
def test_the_answer_to_a_submission_names_the_job(scheduler: str, answer: str, job_id: str, tmp_path: Path) -> None:
    assert _executor(scheduler, tmp_path).job_id_from_submit_output(answer) == job_id


@pytest.mark.parametrize(
    ("scheduler", "answer", "states"),
    [
        (
            "slurm",
            SQUEUE,
            {
                "1": JobState.QUEUED,
                "2": JobState.ACTIVE,
                "3": JobState.FAILED,
                "4": JobState.CANCELED,
                "5": JobState.QUEUED,
            },
        ),
        (
            "lsf",
            BJOBS,
            {
                "25": JobState.ACTIVE,
                "26": JobState.QUEUED,
                "27": JobState.FAILED,
                "28": JobState.COMPLETED,
                "29": JobState.ACTIVE,
            },
        ),
        (
            "pbs",
            QSTAT_PBS,
            {
                "11.s": JobState.ACTIVE,
                "12.s": JobState.QUEUED,
                "13.s": JobState.QUEUED,
                "14.s": JobState.ACTIVE,
                "15.s": JobState.COMPLETED,
                "16.s": JobState.FAILED,
                "17.s": JobState.CANCELED,
                "18.s": JobState.CANCELED,
                "19.s": JobState.QUEUED,
            },
        ),
        ("pbs", '{"timestamp":1,"pbs_version":"20.0.1","pbs_server":"s"}', {}),
        (
            "sge",
            QSTAT_SGE,
            {"5": JobState.ACTIVE, "6": JobState.FAILED, "7": JobState.QUEUED, "8": JobState.QUEUED},
        ),
        ("sge", QSTAT_SGE_STARTING, {"1": JobState.ACTIVE}),
        ("sge", QSTAT_SGE_EMPTY, {}),
    ],
)
def test_what_a_queue_lists_is_read(scheduler: str, answer: str, states: dict[str, JobState], tmp_path: Path) -> None:
    found = _executor(scheduler, tmp_path).parse_status_output(0, answer)
    assert {job_id: status.state for job_id, status in found.items()} == states


@pytest.mark.parametrize(
    ("scheduler", "answer"),
    [
        ("pbs", "qdel: Job has finished 17.s"),
        ("pbs", "qdel: Unknown Job Id 17.s"),
        ("sge", 'denied: job "44" does not exist\n'),
    ],
)
def test_a_job_that_has_ended_meanwhile_needs_no_cancelling(scheduler: str, answer: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidJobStateError):
        _executor(scheduler, tmp_path).process_cancel_command_output(255, answer)


def test_a_job_that_grid_engine_could_not_start_says_where_its_reason_is(tmp_path: Path) -> None:
    status = _executor("sge", tmp_path).parse_status_output(0, QSTAT_SGE)["6"]
    assert status.message == "state Eqw: `qstat -j 6` says why"


@pytest.mark.parametrize(
    ("scheduler", "name", "taken"),
    [
        ("slurm", "2D sweep", "2D sweep"),
        ("sge", "2D sweep", "j2D_sweep"),
        ("sge", "a:b", "a_b"),
        ("pbs", "9lives", "j9lives"),
        ("pbs", "plate.1-a_b", "plate.1-a_b"),
    ],
)
def test_a_job_has_a_name_that_its_scheduler_takes(scheduler: str, name: str, taken: str) -> None:
    assert job_name(scheduler, name) == taken


def test_a_query_that_fails_is_no_answer(tmp_path: Path) -> None:
    for scheduler in ("slurm", "sge", "pbs"):
        with pytest.raises(SubmitException):
            _executor(scheduler, tmp_path).parse_status_output(
                1, "slurm_load_jobs error: Unable to contact slurm controller"
            )
    with pytest.raises(AllocationError, match="XML"):
        parse_qstat_xml("error: commlib error")
    with pytest.raises(AllocationError, match="cannot be run"):
        query("no-such-command-of-a-scheduler")


@pytest.mark.parametrize(
    ("scheduler", "start"),
    [("slurm", ["sbatch", "--parsable"]), ("pbs", ["qsub"]), ("sge", ["qsub"]), ("lsf", ["/bin/sh", "-c"])],
)
def test_the_settings_own_command_submits(scheduler: str, start: list[str], tmp_path: Path) -> None:
    job = Job(JobSpec(executable="/x.sh", arguments=start if scheduler != "lsf" else ["bsub"]))
    command = _executor(scheduler, tmp_path).get_submit_command(job, tmp_path / "x.job")
    assert command[: len(start)] == start
    assert str(tmp_path / "x.job") in command


def batch(**values: object) -> BatchRecord:
    headers = ("#!/bin/bash", "#SBATCH --job-name={name}", "#SBATCH --output={output}", "#SBATCH --error={error}")
    return BatchRecord(scheduler="slurm", submit="sbatch", headers=headers, preamble=("module load x",), **values)  # type: ignore[arg-type]


def test_a_script_names_a_file_and_no_address(tmp_path: Path) -> None:
    paths = JobPaths.of(tmp_path, "batch-r-0")
    lines = job_script(batch(), paths, 2, "sweep").splitlines()
    assert lines[:4] == [
        *(
            "#!/bin/bash",
            "#SBATCH --job-name=sweep",
            f"#SBATCH --output={paths.output(2)}",
            f"#SBATCH --error={paths.error(2)}",
        ),
    ]
    assert lines.index("module load x") < lines.index("unset SLURM_EXPORT_ENV")
    assert lines[-1].startswith("exec ")
    assert lines[-1].endswith(f"-P -m taskensemble.launch.job {paths.file}")


def test_a_refused_submission_says_what_the_scheduler_said_and_leaves_a_private_file(tmp_path: Path) -> None:
    refuse = tmp_path / "sbatch"
    refuse.write_text("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n")
    refuse.chmod(0o755)
    file = JobFile(
        name="j",
        broker_url="redis://:pw@h",
        store_url="redis://:pw@h",
        batch=batch().model_copy(update={"submit": str(refuse)}),
    )
    job = BatchJob(JobPaths.of(tmp_path, "j"), file)
    with pytest.raises(AllocationError, match="invalid account"):
        job.submit()
    assert stat.S_IMODE(job.paths.file.stat().st_mode) == 0o600
    assert read_job(job.paths.file).submissions == 1
    assert job.ended


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", True), ("localhost", True), ("10.0.0.7", False)])
def test_jobs_that_may_not_reach_the_control_plane_are_warned_of(
    host: str, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunRecord(run_id="r-1", experiment="e", path=str(tmp_path), created=0.0, entities=(), templates=())
    BatchJobs(tmp_path, f"redis://:pw@{host}:1/0", f"redis://:pw@{host}:1/0").submit(run, {})
    assert ("jobs on other nodes cannot reach it" in caplog.text) is warned
    assert "pw" not in caplog.text


def test_a_status_command_that_cannot_be_run_is_no_job_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    executor = SlurmScheduler(url=None, config=BatchSchedulerExecutorConfig(initial_queue_polling_delay=3600))
    monkeypatch.setenv("PATH", str(tmp_path))
    job = Job(JobSpec(executable="/bin/true"))
    executor.attach(job, "4711")
    executor._queue_poll_thread._poll()
    assert not job.status.state.final
    assert "The scheduler does not answer and is asked again: " in caplog.text
    assert "squeue cannot be run" in caplog.text
    assert "Traceback" not in caplog.text
