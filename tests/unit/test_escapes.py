"""Names, tags and attached files cannot lead out of the experiment's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble import Experiment
from taskensemble.errors import TaskensembleError


@pytest.fixture
def exp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    return Experiment("exp")


@pytest.mark.parametrize("name", ["../evil", "..", ".", "a/b", "/tmp/evil", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(exp: Experiment, name: str, tmp_path: Path) -> None:
    true = exp.create_run_settings("/bin/true")
    with pytest.raises(TaskensembleError, match="name"):
        Experiment(name)
    with pytest.raises(TaskensembleError, match="name"):
        exp.create_model(name, true)
    with pytest.raises(TaskensembleError, match="name"):
        exp.create_ensemble(name, replicas=1, run_settings=true)


@pytest.mark.parametrize("value", ["../../evil", "/tmp/evil", ".."])
def test_a_parameter_with_a_path_for_a_value_names_no_folder(exp: Experiment, value: str, tmp_path: Path) -> None:
    ensemble = exp.create_ensemble("plate", params={"A": [value]}, run_settings=exp.create_run_settings("/bin/true"))
    exp.generate(ensemble)
    assert [path.parent.name for path in tmp_path.rglob("plate_0")] == ["plate"]
    assert not (tmp_path.parent / "evil").exists()


def test_a_tagged_file_is_written_inside_of_its_members_folder_alone(exp: Experiment, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    template = tmp_path / "in.txt"
    template.write_text("x=;A;\n")
    model = exp.create_model("model", exp.create_run_settings("/bin/true"), params={"A": "../../precious"})
    model.attach_generator_files(to_configure=str(template))
    exp.generate(model)
    assert (tmp_path / "exp/model/in.txt").read_text() == "x=../../precious\n"
    assert target.read_text() == "keep"
