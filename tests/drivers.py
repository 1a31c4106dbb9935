"""Runs a driver of `examples/` as a user does: `python driver.py` in its folder, with nothing but the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

Drive = Callable[..., str]


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Runs a driver in a copy of its folder and returns what it printed; fails with the driver's own words."""

    def run(driver: str, *arguments: str, runner: tuple[str, ...] = (), timeout: float = 240) -> str:
        folder, name = driver.split("/")
        copied = tmp_path / folder
        shutil.copytree(EXAMPLES / folder, copied)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TASKENSEMBLE_BROKER", "TASKENSEMBLE_STORE", "SSDB"))
        }
        # As in an activated environment: a driver may say `python`.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        done = subprocess.run(
            [sys.executable, *runner, name, *arguments],
            cwd=copied,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{driver} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
