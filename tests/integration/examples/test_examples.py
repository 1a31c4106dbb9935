"""The examples that need no system package, and the demo."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def test_the_first_driver_of_the_manual_prints_nine_heights(drive: Callable[..., str]) -> None:
    heights = re.findall(r"throw_\d: .* -> ([\d.]+) m", drive("get_started/driver.py"))
    assert len(heights) == 9
    # v^2 / 2g without drag, and less with it.
    assert float(heights[6]) == pytest.approx(40**2 / (2 * 9.81), rel=1e-3)
    assert float(heights[8]) < float(heights[7]) < float(heights[6])


def test_a_program_that_was_not_made_for_this_is_read_as_the_manual_says(drive: Callable[..., str]) -> None:
    printed = drive("own_program/driver.py")
    page = (ROOT / "docs" / "get-started.md").read_text()
    # How far from zero rounding leaves the second differs between implementations of awk.
    for line in (line for line in printed.splitlines() if not line.startswith("1 ")):
        assert line in page
    assert "1 Completed" in printed


def test_the_second_driver_of_the_manual_asks_a_model(drive: Callable[..., str]) -> None:
    pytest.importorskip("torch")
    assert re.search(r"throw_5: .*'40'.* -> 14\.26 m predicted", drive("get_started/driver_ai.py"))


def test_a_row_of_a_csv_file_is_a_member(drive: Callable[..., str]) -> None:
    lines = drive("csv_sweep/driver.py").splitlines()
    table = lines[lines.index("member,mass,stiffness,damping,settled_s,passes") :]
    assert len(table) == 7
    assert [line.split(",")[0] for line in table[1:]] == [f"oscillator_{row}" for row in range(6)]
    # The envelope of the first, exp(-c t / 2 m), is 5 % of its start at 14.98 s.
    assert 14 < float(table[1].split(",")[4]) < 15


def test_a_merlin_study_gives_what_its_page_says(drive: Callable[..., str]) -> None:
    said = "{'of': 8, 'best': 'simulate_7', 'settles_s': 3.74}"
    assert drive("from_merlin/driver.py").splitlines()[-1] == said
    assert said in (ROOT / "docs" / "coming-from-merlin.md").read_text()


def test_a_consumer_compares_two_experts(drive: Callable[..., str]) -> None:
    printed = drive("experts/driver.py")
    (agree,) = re.findall(r"experts_0 and series agree up to ([\d.]+) rad", printed)
    assert 0.8 < float(agree) < 1.6


def test_members_call_a_scikit_learn_model(drive: Callable[..., str]) -> None:
    for module in ("onnxruntime", "sklearn", "skl2onnx"):
        pytest.importorskip(module)
    speeds = [
        float(speed) for speed in re.findall(r"falls through water at ([\d.]+) m/s", drive("sklearn_onnx/driver.py"))
    ]
    assert len(speeds) == 4
    assert speeds == sorted(speeds)
    assert 1.0 < speeds[3] < 2.5


def test_members_call_a_keras_network(drive: Callable[..., str]) -> None:
    pytest.importorskip("tensorflow")
    off = [float(error) for error in re.findall(r"blobs_\d: ([\d.]+) blobs off", drive("keras_cnn/driver.py"))]
    assert len(off) == 4
    assert max(off) < 1.0


def test_a_driver_written_for_smartsim_runs_unchanged(drive: Callable[..., str]) -> None:
    pytest.importorskip("torch")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    printed = drive("from_smartsim/driver.py", str(port), runner=("-m", "taskensemble.cli.main", "run", "--smartsim"))
    assert printed.count("SmartSimStatus.STATUS_COMPLETED") == 3
    assert "Database" in printed


def test_optuna_is_asked_for_members_and_told_their_results(drive: Callable[..., str]) -> None:
    pytest.importorskip("optuna")
    lowest = [float(value) for value in re.findall(r"the lowest of \d+ points is ([\d.]+)", drive("optuna/driver.py"))]
    assert len(lowest) == 6
    assert lowest == sorted(lowest, reverse=True)
    # The same seed and the same answers: Optuna finds what it finds in one process.
    assert lowest[-1] < 1.0


def test_a_network_learns_from_members_while_they_run(drive: Callable[..., str]) -> None:
    pytest.importorskip("torch")
    printed = drive("online_training/driver.py")
    first, last = map(float, re.findall(r"15360 samples: loss ([\d.]+) -> ([\d.]+)", printed)[0])
    assert last < first / 20
    errors = re.findall(r"pendulum_\d: error ([\d.]+) at first, ([\d.]+) at last", printed)
    assert len(errors) == 3
    assert all(float(last) < float(first) for first, last in errors)


def test_the_demo_simulates_predicts_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TASKENSEMBLE_BROKER", "SSDB"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "taskensemble.demo", str(tmp_path / "plate")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 members completed" in done.stdout
    assert (tmp_path / "plate" / "plate.png").read_bytes().startswith(b"\x89PNG")


def test_members_share_the_gpus_that_a_worker_gives_out(drive: Callable[..., str], tmp_path: Path) -> None:
    """docs/clusters/gpus.md; the worker believes what it is told, and the program says which GPUs it was given."""
    command = [sys.executable, "-m", "taskensemble"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKENSEMBLE_")}
    run = partial(subprocess.run, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)
    run([*command, "up", "--no-workers"])
    arguments = ["worker", "--slots", "16", "--gpus", "0,1,2,3", "--memory", "0"]
    with subprocess.Popen([*command, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as worker:
        try:
            printed = drive("clusters/gpus.py")
        finally:
            worker.terminate()
            worker.wait(30)
            run([*command, "down"])
    halves = re.findall(r"halves_\d saw (\d)\n", printed)
    assert len(halves) == 8
    assert len(set(halves)) > 1
    assert set(halves) <= set("0123")
    assert len(set(re.findall(r"pair saw (\d),(\d)", printed)[0])) == 2
