"""Workers that cannot see the driver's files: each in a mount namespace where an empty file system lies over their folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.engine.servers import Server, running_server

REPOSITORY = Path(__file__).resolve().parents[3]
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The driver's folder, which no worker sees."""
    folder = tmp_path / "driver"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("TASKENSEMBLE_BROKER_URL", "TASKENSEMBLE_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def worker(server: Server, here: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts workers on other hosts, as far as files go; each has a scratch folder of its own."""
    try:
        subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", str(here)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespace can be made here")
    server.client().flushall()
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *options: str) -> subprocess.Popen[bytes]:
        scratch = tmp_path / f"scratch-{name}"
        line = f'mount -t tmpfs none {here} && cd / && exec "$@"'
        command = [sys.executable, "-P", "-m", "workers.app", "--slots", "1", "--name", name, *options]
        with (tmp_path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*UNSHARE, "sh", "-c", line, "sh", *command],
                env={
                    **os.environ,
                    "PYTHONPATH": str(REPOSITORY),
                    "TASKENSEMBLE_BROKER_URL": server.url,
                    "TASKENSEMBLE_SCRATCH": str(scratch),
                },
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
