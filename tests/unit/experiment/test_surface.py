"""The factories, the names of the package, and what costs a driver nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import taskensemble
from taskensemble import Ensemble, Experiment, Model, Status


@pytest.fixture
def exp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    return Experiment("exp")


def true(exp: Experiment) -> Any:
    return exp.create_run_settings(exe="/bin/true")


def test_the_folder_is_the_current_one_with_the_name_and_made_at_first_use(exp: Experiment, tmp_path: Path) -> None:
    assert exp.exp_path == str(tmp_path / "exp")
    assert not (tmp_path / "exp").exists()
    exp.generate(exp.create_model("model", true(exp)))
    assert (tmp_path / "exp" / "model").is_dir()


def test_entities_lie_below_the_experiment_unless_a_path_is_given(exp: Experiment, tmp_path: Path) -> None:
    assert exp.create_model("model", true(exp)).path == str(tmp_path / "exp" / "model")
    assert exp.create_model("other", true(exp), path=str(tmp_path / "else")).path == str(tmp_path / "else")
    ensemble = exp.create_ensemble("ens", replicas=2, run_settings=true(exp))
    assert ensemble[1].path == str(tmp_path / "exp" / "ens" / "ens_1")
    assert exp.create_database(port=0).path == str(tmp_path / "exp" / "orchestrator")


def test_settings_may_come_first_or_second_where_the_manual_puts_them(exp: Experiment) -> None:
    first = exp.create_ensemble(true(exp), replicas=1)
    second = exp.create_ensemble(true(exp), replicas=2)
    third = exp.create_ensemble("named", true(exp), replicas=3)
    assert [ensemble.name for ensemble in (first, second, third)] == ["ensemble", "ensemble_1", "named"]
    assert [len(ensemble) for ensemble in (first, second, third)] == [1, 2, 3]


def test_key_prefixing_and_arguments_reach_a_model(exp: Experiment) -> None:
    model = exp.create_model("model", true(exp), {"H": [1, 2]}, enable_key_prefixing=True, params_as_args=["H"])
    assert model.query_key_prefixing()
    assert model.run_settings is not None
    assert model.run_settings.exe_args == ["-H", "1", "2"]


def test_a_preview_of_a_database_tells_its_ports(exp: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    text = exp.preview(exp.create_database(port=6780))
    assert "6780" in text
    assert text in capsys.readouterr().out


def test_the_public_names_are_those_that_it_lists() -> None:
    for name in taskensemble.__all__:
        assert getattr(taskensemble, name) is not None
    assert issubclass(Ensemble, object)
    assert issubclass(Model, object)
    assert str(Status.COMPLETED) == "Completed"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = taskensemble.nonsense
    assert set(taskensemble.__all__) <= set(dir(taskensemble))


HEAVY = ("celery", "torch", "tensorflow", "workers", "flower", "scipy", "rich", "typer", "pandas", "kombu")


def test_importing_the_package_or_the_experiment_loads_no_worker_code() -> None:
    code = f"""
import sys
import taskensemble
from taskensemble import Experiment
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_importing_the_package_takes_less_than_150_milliseconds() -> None:
    def measure(code: str) -> float:
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - begun)
        return min(times)

    assert measure("import taskensemble") - measure("pass") < 0.15
