"""Run settings: what they write, refuse and warn of; nothing here is run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from taskensemble.entity import Model
from taskensemble.errors import InputError, InputTypeError, LauncherError, TaskensembleError, UnsupportedError
from taskensemble.settings import (
    AprunSettings,
    JsrunSettings,
    MpiexecSettings,
    MpirunSettings,
    OrterunSettings,
    PalsMpiexecSettings,
    RunSettings,
    Singularity,
    SrunSettings,
    create_run_settings,
)

ECHO = str(shutil.which("echo"))


def tool(folder: Path, name: str, prints: str = "") -> Path:
    """A program that prints a line, whatever it is asked."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with Open MPI's launchers, aprun, jsrun and srun, and little else."""
    for name in ("mpirun", "mpiexec", "orterun"):
        tool(tmp_path, name, "mpirun (Open MPI) 4.1.4")
    for name in ("srun", "aprun", "jsrun", "echo"):
        tool(tmp_path, name)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_a_program_is_found_through_path_and_its_arguments_are_split_by_shell_rules() -> None:
    settings = RunSettings("echo", "--name 'two words' x")
    assert settings.exe == [ECHO]
    assert settings.exe_args == ["--name", "two words", "x"]
    assert settings.command().head == (ECHO, "--name", "two words", "x")


def test_a_missing_program_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        RunSettings("nowhere-to-be-found")
    with pytest.raises(TypeError, match="chmod"):
        RunSettings(str(tmp_path / "data"))


def test_what_the_caller_gave_is_never_shared_with_the_settings() -> None:
    args, run_args, env = ["a"], {"-np": 2}, {"K": "v"}
    settings = RunSettings("echo", args, "mpirun", run_args, env)
    args.append("b")
    run_args["-np"] = 3
    env["K"] = "w"
    assert settings.exe_args == ["a"]
    assert settings.format_run_args() == ["-np", "2"]
    assert settings.env_vars == {"K": "v"}


@pytest.mark.parametrize("wrong", [[1, 2], ["1", 2], {"a": 1}, [["1"]]])
def test_arguments_that_are_no_text_are_a_type_error_that_names_them(wrong: object) -> None:
    with pytest.raises(InputTypeError, match="exe_args"):
        RunSettings("echo", wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [None, {"a"}, {"a": "b"}])
def test_update_env_takes_text_and_numbers_only_and_changes_nothing_when_it_refuses(wrong: object) -> None:
    settings = RunSettings("echo")
    settings.update_env({"N": 4, "F": 0.5, "B": True})
    with pytest.raises(TypeError, match="K"):
        settings.update_env({"N": 5, "K": wrong})  # type: ignore[dict-item]
    assert settings.env_vars == {"N": "4", "F": "0.5", "B": "True"}


def test_variables_without_a_value_are_written_empty() -> None:
    assert RunSettings("echo", env_vars={"A": "a", "B": None}).format_env_vars() == ["A=a", "B="]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("set_nodes", (2,)),
        ("set_tasks", (2,)),
        ("set_tasks_per_node", (3,)),
        ("set_task_map", ("x",)),
        ("set_cpus_per_task", (4,)),
        ("set_hostlist", ("h",)),
        ("set_hostlist_from_file", ("f",)),
        ("set_excluded_hosts", ("h",)),
        ("set_cpu_bindings", ([1],)),
        ("set_memory_per_node", (1,)),
        ("set_verbose_launch", (True,)),
        ("set_quiet_launch", (True,)),
        ("set_broadcast", ("/tmp",)),
        ("set_node_feature", ("P100",)),
        ("set_time", (0, 0, 5)),
        ("set_walltime", ("1",)),
        ("set_binding", ("x",)),
        ("set_mpmd_preamble", (["x"],)),
        ("make_mpmd", (None,)),
    ],
)
def test_what_a_run_command_cannot_do_is_a_warning(
    method: str, arguments: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        getattr(RunSettings("echo"), method)(*arguments)
    assert any("not implemented" in record.msg for record in caplog.records)


def test_an_option_is_set_without_its_dashes_on_condition_and_never_when_reserved(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = SrunSettings("echo")
    settings.set("--a-key", "value")
    settings.set("   c ", "1")
    settings.set("flag")
    settings.set("never", condition=False)
    with caplog.at_level(logging.WARNING):
        settings.set("chdir", "/tmp")
        settings.set("c", "2")
    assert settings.run_args == {"a-key": "value", "c": "2", "flag": None}
    assert "reserved" in caplog.text
    assert "Overwriting" in caplog.text
    with pytest.raises(TypeError, match="arg=9"):
        settings.set(9)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="good"):
        settings.set("good", 5)  # type: ignore[arg-type]


def test_srun_writes_every_setter_in_slurms_words() -> None:
    settings = SrunSettings("echo", run_args={"C": "P100", "exclusive": None})
    settings.set_nodes(5)
    settings.set_tasks(100)
    settings.set_tasks_per_node(20)
    settings.set_cpus_per_task(2)
    settings.set_hostlist(["a", "b"])
    settings.set_excluded_hosts("c")
    settings.set_cpu_bindings([1, 2])
    settings.set_memory_per_node(8000)
    settings.set_time(seconds=72)
    settings.set_broadcast("/tmp/x")
    settings.set_verbose_launch(True)
    settings.set_quiet_launch(True)
    settings.set_quiet_launch(False)
    assert settings.format_run_args() == [
        *("-C", "P100", "--exclusive", "--nodes=5", "--ntasks=100", "--ntasks-per-node=20", "--cpus-per-task=2"),
        *(
            "--nodelist=a,b",
            "--exclude=c",
            "--cpu_bind=map_cpu:1,2",
            "--mem=8000M",
            "--time=00:01:12",
            "--bcast=/tmp/x",
        ),
        "--verbose",
    ]
    command = settings.command()
    assert (command.launcher, command.nodes, command.tasks, command.tasks_per_node, command.cpus_per_task) == (
        "srun",
        5,
        100,
        20,
        2,
    )


def test_a_walltime_of_days_stays_hours_minutes_and_seconds() -> None:
    settings = SrunSettings("echo")
    settings.set_time(hours=49, minutes=1, seconds=1845)
    assert settings.run_args["time"] == "49:31:45"


@pytest.mark.parametrize(
    "method", ["set_tasks", "set_nodes", "set_tasks_per_node", "set_cpus_per_task", "set_memory_per_node"]
)
def test_a_count_that_is_no_number_is_a_value_error_that_names_it(method: str) -> None:
    with pytest.raises(ValueError, match="not an int"):
        getattr(SrunSettings("echo"), method)("not an int")
    with pytest.raises(InputError, match=r"2\.5"):
        getattr(SrunSettings("echo"), method)(2.5)


def test_sruns_variables_go_through_export_and_those_with_commas_by_name() -> None:
    settings = SrunSettings("echo", env_vars={"A": "1", "LIST": "x,y"})
    assert settings.format_env_vars() == ["A=1"]
    assert settings.format_comma_sep_env_vars() == ("A=1,LIST", ["LIST=x,y"])
    assert settings.command().head[1:3] == ("--export", "ALL,A=1,LIST")


def test_srun_joins_programs_with_a_colon_and_counts_their_ranks() -> None:
    first, second = SrunSettings("echo", "a"), SrunSettings("echo", "b", env_vars={"K": "v"})
    first.set_tasks(2)
    second.set_tasks(3)
    first.make_mpmd(second)
    command = first.command()
    assert command.head[1:] == ("--ntasks=2", ECHO, "a")
    assert command.tail == (":", "--export", "ALL,K=v", "--ntasks=3", ECHO, "b")
    assert command.tasks == 5


def test_het_groups_need_a_het_job_and_exclude_mpmd(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SrunSettings("echo")
    monkeypatch.delenv("SLURM_HET_SIZE", raising=False)
    with pytest.raises(ValueError, match="not a het job"):
        settings.set_het_group([1])
    monkeypatch.setenv("SLURM_HET_SIZE", "3")
    settings.set_het_group([0, 2])
    assert settings.run_args["het-group"] == "0,2"
    with pytest.raises(ValueError, match="max het group in allocation is 2"):
        settings.set_het_group([3])
    with pytest.raises(ValueError, match="MPMD"):
        settings.make_mpmd(SrunSettings("echo"))


@pytest.mark.parametrize("kind", [SrunSettings, AprunSettings, JsrunSettings])
def test_a_colocated_database_and_mpmd_exclude_each_other(kind: type[RunSettings]) -> None:
    settings = kind("echo")
    settings.colocated_db_settings = {"db_cpus": 1}
    with pytest.raises(UnsupportedError, match="MPMD"):
        settings.make_mpmd(kind("echo"))


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("kind", [MpirunSettings, MpiexecSettings, OrterunSettings])
def test_open_mpis_launchers_get_name_and_value_apart(kind: type[MpirunSettings], tools: Path) -> None:
    settings = kind("echo", env_vars={"A": "1", "B": None})
    settings.set_tasks(2)
    settings.set_hostlist(["n1", "n2"])
    settings.set_time(minutes=1, seconds=12)
    settings.set_cpu_binding_type("core")
    assert settings.format_run_args() == ["--n", "2", "--host", "n1,n2", "--timeout", "72", "--bind-to", "core"]
    assert settings.format_env_vars() == ["-x", "A=1", "-x", "B"]
    assert settings.command().head[:5] == (str(tools / kind.launcher), "-x", "A=1", "-x", "B")


def test_mpich_gets_the_same_wishes_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "mpiexec", "HYDRA build details: Version: 4.0.2")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    settings = MpiexecSettings("echo", env_vars={"A": "1", "B": None})
    settings.set_tasks(4)
    settings.set_tasks_per_node(2)
    settings.set_hostlist(["n1", "n2"])
    assert settings.format_run_args() == ["--n", "4", "--npernode", "2", "--host", "n1,n2"]
    assert settings.command().head[1:] == ("-env", "A", "1", "-n", "4", "-ppn", "2", "-hosts", "n1,n2", ECHO)
    settings.set_walltime("5")
    with pytest.raises(InputError, match="walltime="):
        settings.command()


def test_slurms_wrapper_of_mpiexec_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "mpiexec", "Usage: mpiexec.slurm args executable pgm_args")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnsupportedError, match="srun"):
        MpiexecSettings("echo")


def test_a_missing_mpi_launcher_is_an_error_or_by_choice_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LauncherError, match="mpirun"):
        MpirunSettings(ECHO)
    MpirunSettings(ECHO, fail_if_missing_exec=False)
    assert "Cannot find mpirun" in caplog.text


@pytest.mark.usefixtures("tools")
def test_pals_has_words_of_its_own_and_warns_of_what_it_cannot() -> None:
    settings = PalsMpiexecSettings("echo", env_vars={"A": "1", "PATH": None, "LD": None})
    settings.set_tasks(8)
    settings.set_tasks_per_node(4)
    settings.set_hostlist(["h1", "h2"])
    settings.set_cpu_binding_type("numa")
    settings.set_broadcast()
    settings.set_gpu_affinity_script("/gpu.sh", 1, 2)
    settings.set_walltime("1")
    assert settings.format_run_args() == [
        *("--np", "8", "--ppn", "4", "--hosts", "h1,h2", "--cpu-bind", "numa", "--transfer", "/gpu.sh", "1", "2"),
    ]
    assert settings.format_env_vars() == ["--env", "A=1", "--envlist", "PATH,LD"]


@pytest.mark.usefixtures("tools")
def test_aprun_writes_every_setter_in_alps_words() -> None:
    settings = AprunSettings("echo", run_args={"wdir": "/x", "z": None}, env_vars={"A": "1"})
    settings.set_tasks(100)
    settings.set_tasks_per_node(20)
    settings.set_cpus_per_task(2)
    settings.set_cpu_bindings([1, 2])
    settings.set_memory_per_node(100)
    settings.set_hostlist("h1")
    settings.set_verbose_launch(True)
    settings.set_time(minutes=2)
    assert settings.command().head[1:-1] == (
        *(
            "-e",
            "A=1",
            "-z",
            "--pes=100",
            "--pes-per-node=20",
            "--cpus-per-pe=2",
            "--cpu-binding=1,2",
            "--memory-per-pe=100",
        ),
        *("--node-list=h1", "--debug=7", "--cpu-time-limit=120"),
    )


def test_jsrun_writes_resource_sets() -> None:
    settings = JsrunSettings("echo", run_args={"d": "packed", "immediate": None}, env_vars={"A": "1", "B": None})
    settings.set_num_rs("ALL_HOSTS")
    settings.set_cpus_per_rs(2)
    settings.set_gpus_per_rs("ALL_GPUS")
    settings.set_rs_per_host(4)
    settings.set_tasks_per_rs(12)
    settings.set_tasks(96)
    settings.set_memory_per_node(100)
    settings.set_binding("packed:2")
    assert settings.format_run_args() == [
        *(
            "-d",
            "packed",
            "--immediate",
            "--nrs=ALL_HOSTS",
            "--cpu_per_rs=2",
            "--gpu_per_rs=ALL_GPUS",
            "--rs_per_host=4",
        ),
        *("--tasks_per_rs=12", "--np=96", "--memory_per_rs=100", "--bind=packed:2"),
    ]
    assert settings.format_env_vars() == ["-E", "A=1", "-E", "B"]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({}, {"cpu_per_rs": 3, "rs_per_host": 1}),
        ({"c": 8, "r": 1}, {"c": 8, "r": 1}),
        ({"c": 2, "r": 4}, {"c": 3, "r": 1}),
        ({"cpu_per_rs": "ALL_CPUS", "rs_per_host": 2}, {"cpu_per_rs": "ALL_CPUS", "rs_per_host": 1}),
    ],
)
def test_jsrun_makes_room_for_a_colocated_database(given: dict[str, Any], made: dict[str, Any]) -> None:
    model = Model("m", {}, JsrunSettings("echo", run_args=given))
    model.colocate_db_tcp(db_cpus=3)
    assert {name: str(value) for name, value in model.run_settings.run_args.items()} == {
        name: str(value) for name, value in made.items()
    }


def test_jsruns_programs_go_into_an_explicit_resource_file() -> None:
    outer = JsrunSettings("echo")
    outer.set_mpmd_preamble(["oversubscribe_cpu : allow"])
    first, second = JsrunSettings("echo", "a"), JsrunSettings("echo", "b", run_args={"d": "cyclic"})
    first.set_erf_sets({"host": "1", "cpu": "{0:21}", "gpu": "*", "rank_count": "2"})
    outer.make_mpmd(first)
    outer.make_mpmd(second)
    command = outer.command()
    assert command.head[-2:] == ("--erf_input", "taskensemble.erf")
    assert command.files["taskensemble.erf"].splitlines() == [
        "launch_distribution : cyclic",
        "oversubscribe_cpu : allow",
        "",
        f"app 0 : {ECHO} a",
        f"app 1 : {ECHO} b",
        "",
        "2 : { host: 1; cpu: {0:21}; gpu: * }: app 0",
        "1 : { host: *; cpu: * }: app 1",
    ]


def test_a_container_starts_in_the_members_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path, "singularity")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    told = Singularity("img.sif", args="--nv --cleanenv", mount={"/a": "/b", "/c": None}, working_directory="/w")
    assert RunSettings("prog", "x", container=told).command().head == (
        *(
            str(tmp_path / "singularity"),
            "exec",
            "--pwd",
            "/w",
            "--nv",
            "--cleanenv",
            "--bind",
            "/w,/a:/b,/c",
            "img.sif",
        ),
        *("prog", "x"),
    )
    shell = RunSettings("prog", "x", container=Singularity("img.sif", mount=["/a"])).command().head
    assert shell[:2] == ("/bin/sh", "-c")
    assert '--pwd "$PWD" --bind "$PWD,/a"' in shell[2]
    assert shell[3:] == (str(tmp_path / "singularity"), "img.sif", "prog", "x")
    with pytest.raises(TypeError, match="image"):
        Singularity(5)  # type: ignore[arg-type]


def test_auto_is_nothing_on_local_and_the_launchers_first_choice_elsewhere(tools: Path) -> None:
    assert type(create_run_settings("local", "echo")) is RunSettings
    assert create_run_settings("local", "echo").run_command is None
    assert create_run_settings("local", "echo", run_command="specific").run_command == "specific"
    for launcher, kind in {
        "slurm": SrunSettings,
        "pbs": AprunSettings,
        "pals": PalsMpiexecSettings,
        "lsf": JsrunSettings,
        "sge": MpirunSettings,
    }.items():
        assert type(create_run_settings(launcher, "echo")) is kind
    (tools / "srun").unlink()
    assert isinstance(create_run_settings("slurm", "echo"), (SrunSettings, MpirunSettings))


def test_auto_names_what_it_looked_for_when_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TaskensembleError, match="aprun, mpirun, mpiexec"):
        create_run_settings("pbs", ECHO)
