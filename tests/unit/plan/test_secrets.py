"""Variables that are named like secrets: no record, command line or preview has their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble import Experiment
from taskensemble.engine.secret_names import VARIABLE, is_secret
from taskensemble.settings import MpirunSettings, RunSettings, SrunSettings

SECRET = "xyzzy-17"


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASSWORD",
        "PGPASSWORD",
        "HF_TOKEN",
        "GITHUB_TOKEN_2",
        "AWS_SECRET_ACCESS_KEY",
        "WANDB_API_KEY",
        "api_key",
        "MYSQL_PWD",
        "DB_PASS",
        "MINIO_ACCESSKEY",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "SSKEYIN", "KEYBOARD", "OMP_NUM_THREADS", "MONKEY", "BYPASS", "PASS"],
)
def test_other_names_are_not_taken_for_secrets(name: str) -> None:
    assert not is_secret(name)


def test_a_url_with_a_password_is_a_secret_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (f"redis://:{SECRET}@h:1/0", f"postgresql://u:{SECRET}@h/db", f"--at http://u:{SECRET}@h"):
        assert is_secret("STORE", value)
    for value in ("redis://h:1/0", "http://h:1/a@b", "user@h:1", "", None):
        assert not is_secret("STORE", value)
    monkeypatch.setenv(VARIABLE, "!STORE")
    assert not is_secret("STORE", f"redis://:{SECRET}@h")


def test_names_can_be_added_and_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "LICENSE_*, !GAME_KEY")
    assert is_secret("LICENSE_SERVER")
    assert not is_secret("GAME_KEY")
    assert is_secret("OTHER_KEY")


@pytest.mark.usefixtures("mpi_launchers")
@pytest.mark.parametrize("kind", [RunSettings, MpirunSettings, SrunSettings])
def test_neither_preview_nor_record_shows_a_secret(
    kind: type[RunSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIVER_TOKEN", SECRET)
    exp = Experiment("exp", exp_path=tmp_path, export_env=["DRIVER_TOKEN"])
    settings = kind("/bin/true", env_vars={"API_KEY": SECRET, "STORE": f"redis://:{SECRET}@h", "MODE": "fast"})
    model = exp.create_model("model", settings)
    for level in ("info", "debug", "developer"):
        for form in ("plain_text", "json"):
            assert SECRET not in exp.preview(model, verbosity_level=level, output_format=form)
    shown = exp.preview(model, verbosity_level="debug", output_format="json")
    assert "API_KEY" in shown
    assert "(secret)" in shown
    assert "MODE" in shown
    for described in (settings, model, exp.create_ensemble("plate", run_settings=settings, replicas=2)):
        assert SECRET not in str(described)
        assert SECRET not in repr(described)
    assert SECRET not in capsys.readouterr().out
