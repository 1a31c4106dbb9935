"""A report of a run that happened, from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskensemble import Experiment


def test_a_run_with_failures_is_reported_with_their_logs_and_where_it_came_from(
    drive: Callable[..., str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    drive("ensemble/policies.py")
    experiment = tmp_path / "ensemble" / "policies"
    command = [sys.executable, "-m", "taskensemble.cli.main"]
    listed = subprocess.run(
        [*command, "status", "--json", "-p", experiment], capture_output=True, check=True, timeout=60
    )
    (failed,) = [run["run_id"] for run in json.loads(listed.stdout) if run["size"] == 50]
    subprocess.run([*command, "report", failed, "-p", experiment, "-o", tmp_path / "report"], check=True, timeout=60)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "stopped_0.err" in page
    assert "/bin/false" in page
    assert "data:image/png;base64," in page
    facts = json.loads((tmp_path / "report" / "facts.json").read_text())
    assert len(facts["members"]) == 50
    assert facts["failures"][0]["returncode"] == 1
    assert {row["state"] for row in facts["members"]} == {"Failed", "Cancelled"}


def test_markup_in_names_parameters_and_logs_stays_text_in_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TASKENSEMBLE_BROKER_URL", "TASKENSEMBLE_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    markup = "<img src=x onerror=alert(1)>"
    with Experiment("exp", slots=1) as exp:
        program = exp.create_run_settings("/bin/sh", ["-c", 'echo "<script>alert(1)" >&2; exit 3', markup])
        run = exp.start(exp.create_model(markup, program, params={markup: markup}), block=True)
    subprocess.run(
        [sys.executable, "-m", "taskensemble.cli.main", "report", run.run_id, "-p", "exp", "-o", "report"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    page = (tmp_path / "report" / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;img src=x" in page
    assert "<script" not in page
    assert "<img src=x" not in page
