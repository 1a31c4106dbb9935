"""The preview under SmartSim's titles, which scripts look for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pytest

from taskensemble.smartsim import Experiment
from taskensemble.smartsim._core.config import CONFIG
from taskensemble.smartsim.entity.dbnode import LaunchedShardData
from taskensemble.smartsim.entity.model import _parse_model_parameters
from taskensemble.smartsim.error import SSUnsupportedError
from taskensemble.smartsim.error.errors import PreviewFormatError
from taskensemble.smartsim.settings import JsrunSettings, QsubBatchSettings, RunSettings, SrunSettings
from taskensemble.smartsim.settings.base import BatchSettings
from taskensemble.smartsim.wlm.slurm import _get_alloc_cmd


@pytest.fixture
def exp(tmp_path: Path) -> Experiment:
    return Experiment("exp", exp_path=str(tmp_path))


def titles(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_an_experiment_alone_is_three_facts(exp: Experiment) -> None:
    lines = titles(exp.preview(verbosity_level="debug"))
    assert lines[-3:] == ["Experiment Name: exp", f"Experiment Path: {exp.exp_path}", "Launcher: local"]


def test_a_model_with_a_database_tells_program_parameters_files_and_client(exp: Experiment, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(";port;")
    database = exp.create_database(port=6780, db_identifier="db_1")
    other = exp.create_model("other", RunSettings("echo"))
    model = exp.create_model("hello", RunSettings("echo", ["spam", "eggs"]), {"port": 6379}, enable_key_prefixing=True)
    model.attach_generator_files(to_configure=str(tmp_path / "in.txt"))
    model.register_incoming_entity(other)
    model.add_script("norm", script="def f(x):\n    return x\n")
    text = exp.preview(database, model, other, verbosity_level="debug")
    for line in (
        "== Orchestrators ==", "= Database Identifier: db_1 =", "Shards: 1", "TCP/IP Port(s):", "6780", "Network Interface: lo",
        "Type: redis", f"Executable: {CONFIG.database_exe}", "== Models ==", "= Model Name: hello =",
        "Executable Arguments:", "spam",
        "Model Parameters:", "port: 6379", "Tagged Files for Model Configuration:", str(tmp_path / "in.txt"), "Torch Scripts:",
        "Name: norm", "Key Prefix: hello", "Client Configuration:", "Database Identifier: db_1", "Database Backend: redis",
        "Type: Standalone", "Incoming Entities (Available Data Sources):", "other",
        "Outgoing Key Collision Prevention (Key Prefixing):", "Tensors: On", "Datasets: On", "ML Models/Torch Scripts: Off",
        "Aggregation Lists: On",
    ):  # fmt: skip
        assert line in titles(text), line


def test_without_details_the_first_and_the_last_member_stand_for_all(exp: Experiment) -> None:
    ensemble = exp.create_ensemble("e", {"T": [1, 2, 3]}, run_settings=RunSettings("echo"))
    short = titles(exp.preview(ensemble))
    assert [line for line in short if line.startswith("- Model Name")] == ["- Model Name: e_0 -", "- Model Name: e_2 -"]
    assert "Executable: echo" not in short
    full = titles(exp.preview(ensemble, verbosity_level="developer"))
    assert sum(line.startswith("- Model Name") for line in full) == 3
    for line in ("== Ensembles ==", "= Ensemble Name: e =", "Members: 3", "Ensemble Parameters:", "T: 1, 2, 3"):
        assert line in full
    assert "Permutation Strategy: all_perm" in full


def test_a_colocated_database_is_told_with_its_connection(exp: Experiment, tmp_path: Path) -> None:
    model = exp.create_model("m", RunSettings("echo"))
    model.colocate_db_tcp(port=6790, db_identifier="near")
    (tmp_path / "net.pb").write_bytes(b"x")
    model.add_ml_model("cnn", "TF", model_path=str(tmp_path / "net.pb"), inputs=["x"], outputs=["y"])
    text = titles(exp.preview(model))
    for line in (
        "Colocated:", "Database Identifier: near", "Connection Type: TCP", "6790", "ML Models:", "Name: cnn", "Backend: TF",
        "Inputs:", "Outputs:", "Type: Colocated",
    ):  # fmt: skip
        assert line in text, line
    model.colocate_db_uds()
    assert "Connection Type: UDS" in titles(exp.preview(model, verbosity_level="debug"))


def test_files_that_are_there_are_kept(exp: Experiment, tmp_path: Path) -> None:
    class Format(StrEnum):
        PLAINTEXT = "plain_text"

    for _ in range(3):
        exp.preview(output_filename=str(tmp_path / "p.txt"), output_format=Format.PLAINTEXT)
    assert sorted(path.name for path in tmp_path.glob("p*")) == ["p.txt", "p_01.txt", "p_02.txt"]
    exp.preview(output_filename=str(tmp_path / "p.json"), output_format="json")
    assert (tmp_path / "p.json").read_text().startswith("{")
    with pytest.raises(PreviewFormatError, match="'hello'"):
        exp.preview(output_format="hello")
    with pytest.raises(ValueError, match="'loud'"):
        exp.preview(verbosity_level="loud")


@pytest.mark.parametrize(
    ("launcher", "run_settings", "batch_settings", "told"),
    [
        ("slurm", JsrunSettings("echo"), None, "JsrunSettings.*'m'.*launcher='slurm'"),
        ("lsf", SrunSettings("echo"), None, "SrunSettings"),
        ("slurm", RunSettings("echo"), QsubBatchSettings(nodes=1), "batch_settings=QsubBatchSettings"),
        ("local", RunSettings("echo"), QsubBatchSettings(nodes=1), "batch_settings=Qsub.*'m'.*launcher='local'.*leave"),
    ],
)
def test_settings_of_another_scheduler_are_refused_at_the_start(
    launcher: str, run_settings: RunSettings, batch_settings: BatchSettings | None, told: str, tmp_path: Path
) -> None:
    exp = Experiment("exp", exp_path=str(tmp_path), launcher=launcher)
    with pytest.raises(SSUnsupportedError, match=told):
        exp.start(exp.create_model("m", run_settings, batch_settings=batch_settings))
    ensemble = exp.create_ensemble("m", run_settings=run_settings, replicas=2, batch_settings=batch_settings)
    with pytest.raises(SSUnsupportedError, match=told):
        exp.start(ensemble)


def test_small_names_that_scripts_import_do_what_they_say() -> None:
    assert _parse_model_parameters({"a": 0.5, "b": "x"}) == {"a": "0.5", "b": "x"}
    for wrong in (["eggs"], {"n": 5}, object):
        with pytest.raises(TypeError):
            _parse_model_parameters({"a": wrong})
    assert _get_alloc_cmd(5, "10:00:70", "A1", {"ntasks-per-node": 5}) == [
        "--no-shell", "-N", "5", "-J", "SmartSim", "-t", "10:01:10", "-A", "A1", "--ntasks-per-node=5",
    ]  # fmt: skip
    shard = LaunchedShardData("s", "host", 6379, cluster=False)
    assert LaunchedShardData(**shard.to_dict()) == shard
    assert Experiment("e", launcher="slurm")._launcher == "slurm"
