"""What unit tests of several folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def mpi_launchers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Launchers that say they are Open MPI's, first on PATH: settings look for them, and not every machine has an MPI."""
    folder = tmp_path_factory.mktemp("mpi")
    for name in ("mpirun", "mpiexec", "orterun"):
        program = folder / name
        program.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 4.1.4'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder
