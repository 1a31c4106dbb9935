"""Steps, launchers and the controller: what scripts of SmartSim's ask them, answered from settings and records."""

import os
import sys
from pathlib import Path

import pytest

from taskensemble.smartsim import Experiment
from taskensemble.smartsim._core.control import Controller
from taskensemble.smartsim._core.control.controller import _AnonymousBatchJob
from taskensemble.smartsim._core.control.manifest import LaunchedManifestBuilder, Manifest
from taskensemble.smartsim._core.launcher import LocalLauncher, PBSLauncher, SlurmLauncher
from taskensemble.smartsim._core.launcher.sge.sgeParser import parse_qstat_jobid_xml
from taskensemble.smartsim._core.launcher.step import LocalStep, MpiexecStep, SbatchStep, SrunStep, Step
from taskensemble.smartsim._core.launcher.step.dragonStep import DragonStep
from taskensemble.smartsim._core.utils.helpers import decode_cmd, encode_cmd
from taskensemble.smartsim._core.utils.shell import execute_async_cmd, execute_cmd
from taskensemble.smartsim.database import Orchestrator
from taskensemble.smartsim.entity import Ensemble, Model
from taskensemble.smartsim.error import AllocationError, ShellError, SSUnsupportedError
from taskensemble.smartsim.settings import (
    MpiexecSettings,
    PalsMpiexecSettings,
    RunSettings,
    SbatchSettings,
    SrunSettings,
)
from taskensemble.smartsim.wlm import slurm


def test_a_steps_files_are_where_its_status_folder_says(tmp_path):
    step = LocalLauncher().create_step("m", tmp_path, RunSettings("echo", "hi", run_command="time"))
    assert isinstance(step, LocalStep)
    assert step.get_launch_cmd()[-2:] == [RunSettings("echo").exe[0], "hi"]
    with pytest.raises(KeyError, match="status_dir"):
        step.get_output_files()
    step.meta["status_dir"] = tmp_path / "status"
    assert step.get_output_files() == (f"{tmp_path}/status/m.out", f"{tmp_path}/status/m.err")
    assert step.name != LocalLauncher().create_step("m", tmp_path, RunSettings("echo")).name
    with pytest.raises(NotImplementedError, match="create_step"):
        Step("m", tmp_path, RunSettings("echo")).get_launch_cmd()
    with pytest.raises(SSUnsupportedError, match="batch"):
        step.add_to_batch(step)


def test_a_batch_script_runs_the_steps_of_its_members(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    launcher, settings = SlurmLauncher(), SrunSettings("echo", ["a b"], env_vars={"LIST": "1,2", "ONE": "1"})
    with pytest.raises(AllocationError, match="SLURM_JOB_ID"):
        launcher.create_step("m", tmp_path, settings)
    settings.in_batch = True
    step, batch = launcher.create_step("m", tmp_path, settings), launcher.create_step("b", tmp_path, SbatchSettings(3))
    assert isinstance(step, SrunStep)
    assert isinstance(batch, SbatchStep)
    for each in (step, batch):
        each.meta["status_dir"] = tmp_path
    batch.add_to_batch(step)
    assert step.get_launch_cmd()[:3] == ["env", "LIST=1,2", settings.run_command]
    assert batch.step_cmds == [["cd", str(tmp_path), ";", *step.get_launch_cmd()]]
    assert batch.get_launch_cmd()[1:] == ["--parsable", f"{tmp_path}/b.sh"]
    lines = (tmp_path / "b.sh").read_text().splitlines()
    assert lines[0].startswith("#!")
    assert "#SBATCH --nodes=3" in lines
    assert any(line.endswith("echo 'a b') &") for line in lines)
    assert lines[-1] == "wait"
    with pytest.raises(SSUnsupportedError, match="use start"):
        launcher.run(step)


def test_an_mpi_step_names_its_folder_and_needs_an_allocation(tmp_path, monkeypatch):
    for name in ("PBS_JOBID", "SLURM_JOBID", "LSB_JOBID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    program = tmp_path / "mpiexec"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    settings = PalsMpiexecSettings("echo", "hi", run_args={"np": 2})
    with pytest.raises(AllocationError, match="PBS_JOBID"):
        PBSLauncher().create_step("m", tmp_path, settings)
    monkeypatch.setenv("PBS_JOBID", "7")
    step = PBSLauncher().create_step("m", tmp_path, settings)
    assert isinstance(step, MpiexecStep)
    assert step.get_launch_cmd() == [str(program), "--wdir", str(tmp_path), "--np", "2", *settings.exe, "hi"]
    assert isinstance(SlurmLauncher().create_step("m", tmp_path, MpiexecSettings("echo")), MpiexecStep)
    with pytest.raises(SSUnsupportedError, match="SlurmLauncher; it knows SrunSettings"):
        SlurmLauncher().create_step("m", tmp_path, settings)
    with pytest.raises(SSUnsupportedError, match="workers take the place"):
        DragonStep("m", str(tmp_path), settings)


def test_a_controller_makes_steps_and_links_their_files(tmp_path):
    controller = Controller(launcher="slurm")
    batch, run = SbatchSettings(), SrunSettings("echo")
    ensemble = Ensemble("e", {}, str(tmp_path), run_settings=run, batch_settings=batch, replicas=2)
    model = Model("m", {}, run, str(tmp_path), batch_settings=batch)
    database = Orchestrator(str(tmp_path), db_nodes=3, batch=True, launcher="slurm", run_command="srun")
    for entity in (ensemble, database, _AnonymousBatchJob(model)):
        step, members = controller._create_batch_job_step(entity, tmp_path / "told")
        assert isinstance(step, SbatchStep)
        assert [each.entity_name for each in members] == [each.name for each in entity.entities]
        for each in members:
            controller.symlink_output_files(each, entity)
            assert os.readlink(tmp_path / f"{entity.name}.err") == (
                f"{tmp_path}/told/{entity.name}/{each.entity_name}/{each.entity_name}.err"
            )
    model.path = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        controller.symlink_output_files(members[0], model)


def test_a_controller_of_no_experiment_starts_nothing(tmp_path):
    controller, model = Controller(), Model("m", {}, RunSettings("echo"), str(tmp_path))
    with pytest.raises(SSUnsupportedError, match="use its start"):
        controller.start("exp", str(tmp_path), Manifest(model))
    with pytest.raises(ValueError, match="m has not been launched"):
        controller.finished(model)
    for wrong in (Orchestrator(), []):
        with pytest.raises(TypeError):
            controller.finished(wrong)
    with pytest.raises(TypeError, match="launcher=None"):
        controller.init_launcher(None)
    with pytest.raises(SSUnsupportedError, match="'other'"):
        Controller("other")


def test_a_start_makes_the_folders_before_anything_runs(tmp_path, monkeypatch):
    experiment = Experiment("exp", exp_path=str(tmp_path))
    ensemble = experiment.create_ensemble("e", run_settings=RunSettings("echo"), replicas=2)
    seen = []
    monkeypatch.setattr(experiment._control, "start", lambda *_args, **_keywords: seen.extend(tmp_path.glob("e/*")))
    experiment.start(ensemble)
    assert sorted(path.name for path in seen) == ["e_0", "e_1"]


def test_batch_settings_on_one_machine_are_a_type_error_too(tmp_path):
    experiment = Experiment("exp", exp_path=str(tmp_path))
    model = experiment.create_model("m", RunSettings("echo"), batch_settings=SbatchSettings())
    with pytest.raises(TypeError, match="batch_settings=SbatchSettings"):
        experiment.start(model)
    assert not list(Path(model.path).glob("m.*"))


def test_a_launched_manifest_keeps_what_belongs_to_each_entity(tmp_path):
    ensemble = Ensemble("e", {}, run_settings=RunSettings("echo"), replicas=2)
    builder = LaunchedManifestBuilder("exp", str(tmp_path), "local", "run")
    builder.add_model("m", 1)
    builder.add_ensemble(ensemble, [2, 3])
    builder.add_database(Orchestrator(), [4])
    manifest = builder.finalize().map(str)
    assert manifest.models == (("m", "1"),)
    assert [data for _, data in manifest.ensembles[0][1]] == ["2", "3"]
    assert [data for _, data in manifest.databases[0][1]] == ["4"]
    assert manifest.metadata.run_telemetry_subdirectory == tmp_path / ".smartsim" / "telemetry" / "exp" / "run"
    assert builder.exp_telemetry_subdirectory == manifest.metadata.manifest_file_path.parent
    with pytest.raises(ValueError, match="length 1 to entity sequence of length 2"):
        builder.add_ensemble(ensemble, [1])
    ensemble.entities = []
    with pytest.raises(ValueError, match="empty entity sequence"):
        builder.add_ensemble(ensemble, [])


def test_programs_are_run_beside_a_driver():
    assert execute_cmd([sys.executable, "-c", "print(input())"], proc_input="x") == (0, "x\n", "")
    with pytest.raises(ShellError, match=r"timeout of 0\.1 seconds"):
        execute_cmd(["sleep", "9"], timeout=0.1)
    process = execute_async_cmd(["sleep", "9"], cwd=".")
    process.kill()
    process.communicate()
    for command in (["sleep", "--wrong"], ["no-such-program"]):
        with pytest.raises(ShellError, match=command[0]):
            execute_async_cmd(command, cwd=".")


def test_command_lines_travel_as_one_word():
    assert decode_cmd(encode_cmd(["echo", "a b"])) == ["echo", "a b"]
    for function, nothing in ((encode_cmd, []), (decode_cmd, "")):
        with pytest.raises(ValueError, match="Invalid cmd supplied"):
            function(nothing)


def test_schedulers_answers_are_read(tmp_path, monkeypatch):
    answer = "<j><queue_info><job_list><JB_job_number>7</JB_job_number><state>r</state></job_list></queue_info></j>"
    assert parse_qstat_jobid_xml(answer, "7") == "r"
    assert parse_qstat_jobid_xml(answer, "8") is None
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\necho 'all n1 4'\necho 'all n2 8'\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (partition,) = slurm._get_system_partition_info().values()
    assert (partition.name, {(node.name, node.ppn) for node in partition.nodes}) == ("all", {("n1", 4), ("n2", 8)})
    assert partition._is_valid_partition()
