"""Batch settings: options, headers and scripts of Slurm, PBS, LSF and Grid Engine."""

from __future__ import annotations

import pytest

from taskensemble.errors import InputError, LauncherUnsupportedError, TaskensembleError
from taskensemble.settings import (
    BsubBatchSettings,
    QsubBatchSettings,
    SbatchSettings,
    SgeQsubBatchSettings,
    create_batch_settings,
)


def test_each_launcher_has_its_class_and_unknown_keywords_are_for_the_others() -> None:
    slurm = create_batch_settings("slurm", nodes=1, time="10:00:00", queue="q", account="a", ncpus=10)
    assert isinstance(slurm, SbatchSettings)
    assert slurm.format_batch_args() == ["--nodes=1", "--time=10:00:00", "--partition=q", "--account=a"]
    pbs = create_batch_settings("pbs", nodes=1, time="10:00:00", queue="q", account="a", ncpus=10)
    assert isinstance(pbs, QsubBatchSettings)
    assert pbs.format_batch_args() == ["-l nodes=1:ncpus=10", "-l walltime=10:00:00", "-q q", "-A a"]
    lsf = create_batch_settings("lsf", nodes=1, time="10:00:00", queue="q", account="a")
    assert isinstance(lsf, BsubBatchSettings)
    assert lsf.format_batch_args() == ["-nnodes 1", "-q q"]
    assert isinstance(create_batch_settings("sge", nodes=1, time="1:00:00"), SgeQsubBatchSettings)
    for launcher in ("local", "dragonfly"):
        with pytest.raises(TaskensembleError, match=launcher):
            create_batch_settings(launcher)


def test_what_the_caller_gave_is_never_shared_with_the_settings() -> None:
    given = {"exclusive": None}
    settings = SbatchSettings(batch_args=given)
    given["qos"] = "x"
    assert settings.batch_args == {"exclusive": None}


def test_a_preamble_takes_a_line_or_lines_and_nothing_else() -> None:
    settings = SbatchSettings()
    settings.add_preamble("module load gcc")
    settings.add_preamble(["module load openmpi", "conda activate x"])
    assert list(settings.preamble) == ["module load gcc", "module load openmpi", "conda activate x"]
    with pytest.raises(TypeError, match="lines"):
        settings.add_preamble(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("launcher", ["slurm", "pbs", "lsf", "sge"])
def test_requeue_is_an_argument_of_every_scheduler(launcher: str, caplog: pytest.LogCaptureFixture) -> None:
    made = create_batch_settings(launcher, requeue=2, ncpus=1, pe_type="mpi")
    assert made.requeue == 2
    assert "requeue" not in caplog.text


def test_requeue_counts_from_nought() -> None:
    assert SbatchSettings(requeue=2).record().requeue == 2
    with pytest.raises(InputError, match="requeue"):
        SbatchSettings(requeue=-1)


def test_a_slurm_script_has_headers_then_preamble_then_body() -> None:
    settings = SbatchSettings(nodes=2, time="00:10:00", batch_args={"C": "gpu", "exclusive": None})
    settings.add_preamble("module load x")
    assert settings.record().script("sweep", "/o", "/e", ("exec worker",)).splitlines() == [
        *("#!/bin/bash", "#SBATCH --job-name=sweep", "#SBATCH --output=/o", "#SBATCH --error=/e", "#SBATCH -C gpu"),
        *(
            "#SBATCH --exclusive",
            "#SBATCH --nodes=2",
            "#SBATCH --time=00:10:00",
            "",
            "module load x",
            "",
            "exec worker",
        ),
    ]


def test_a_pbs_script_has_its_resources() -> None:
    settings = QsubBatchSettings(ncpus=36, time="01:00:00", resources={"select": 10, "place": "scatter"})
    settings.set_hostlist(["a", "b"])
    assert settings.headers("n", "o", "e") == [
        *("#!/bin/bash", "#PBS -N n", "#PBS -o o", "#PBS -e e", "#PBS -l select=10:ncpus=36:host=a+host=b"),
        *("#PBS -l place=scatter", "#PBS -l walltime=01:00:00"),
    ]


def test_pbs_refuses_nodes_beside_select_and_leaves_what_it_had() -> None:
    settings = QsubBatchSettings(nodes=10)
    with pytest.raises(InputError, match="select"):
        settings.set_resource("select", 4)
    with pytest.raises(TypeError, match="nodes"):
        settings.resources = {"nodes": "10"}
    with pytest.raises(TypeError, match="foo"):
        settings.set_resource("foo", None)  # type: ignore[arg-type]
    assert settings.resources == {"nodes": 10}
    with pytest.raises(InputError, match="set_nodes"):
        QsubBatchSettings().format_batch_args()
    with pytest.raises(ValueError, match="nodes"):
        QsubBatchSettings(nodes=1, resources={"nodes": 2})


def test_an_lsf_script_has_walltime_project_and_quoted_flags() -> None:
    settings = BsubBatchSettings(nodes=1, time="10:00:59", project="A1", smts=4, batch_args={"alloc_flags": "nvme"})
    assert settings.format_batch_args() == ['-alloc_flags "nvme smt4"', "-nnodes 1"]
    assert settings.headers("n", "o", "e")[1:6] == [
        "#BSUB -J n",
        "#BSUB -o o",
        "#BSUB -e e",
        "#BSUB -W 10:00",
        "#BSUB -P A1",
    ]
    settings.set_expert_mode_req("1*{select[LN]}", 4)
    assert "-nnodes 1" not in settings.format_batch_args()


def test_grid_engine_needs_slots_and_their_environment_and_takes_no_hosts() -> None:
    settings = SgeQsubBatchSettings(time="01:00:00", ncpus=8, pe_type="mpi", account="a")
    settings.set_ngpus(1)
    settings.update_context_variables("sc", "foo", "bar")
    settings.set_threads_per_pe(2)
    assert settings.headers("n", "o", "e") == [
        *("#!/bin/bash -l", "#$ -o o", "#$ -e e", "#$ -N n", "#$ -pe mpi 8", "#$ -sc foo=bar", "#$ -l h_rt=01:00:00"),
        *("#$ -l gpu=1", "#$ -v OMP_NUM_THREADS=2", "#$ -A a"),
    ]
    assert "-notify" in SgeQsubBatchSettings(batch_args={"notify": None}).format_batch_args()
    with pytest.raises(InputError, match="is empty"):
        SgeQsubBatchSettings(batch_args={"notify": ""}).format_batch_args()
    with pytest.raises(InputError, match="set_pe_type"):
        SgeQsubBatchSettings(ncpus=4).format_batch_args()
    with pytest.raises(LauncherUnsupportedError, match="queue"):
        settings.set_queue("q")
    with pytest.raises(InputError, match="dc"):
        settings.update_context_variables("dc", "foo", "bar")
