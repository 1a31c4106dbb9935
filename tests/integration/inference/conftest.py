"""A database with inference workers for the tests of this folder, and models that only TensorFlow can write."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from taskensemble.database import DatabaseOptions, start_database, stop_database

BUILDER = Path(__file__).with_name("build_tf_models.py")


class Server:
    """A running database and a client of it."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.record = start_database(
            DatabaseOptions(name="db", folder=folder, unix_socket=str(folder / "s"), **options)
        )
        self.client: Any = redis.Redis(unix_socket_path=str(folder / "s"), socket_timeout=120)

    def __call__(self, *words: Any) -> Any:
        """Run a command."""
        return self.client.execute_command(*words)

    def put(self, key: str, array: np.ndarray[Any, Any]) -> None:
        types = {"float32": "FLOAT", "float64": "DOUBLE", "int64": "INT64", "int32": "INT32", "uint8": "UINT8"}
        self("AI.TENSORSET", key, types[array.dtype.name], *array.shape, "BLOB", array.tobytes())

    def get(self, key: str) -> np.ndarray[Any, Any]:
        types = {"FLOAT": "f4", "DOUBLE": "f8", "INT64": "i8", "INT32": "i4", "UINT8": "u1"}
        _, dtype, _, shape, _, blob = self("AI.TENSORGET", key, "META", "BLOB")
        return np.frombuffer(blob, types[dtype.decode()]).reshape(shape)

    def workers(self) -> list[dict[str, Any]]:
        """The inference workers, by what AI._WORKER LIST says of them."""
        rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in self("AI._WORKER", "LIST")]
        return [
            {key.decode(): value.decode() if isinstance(value, bytes) else value for key, value in row.items()}
            for row in rows
        ]

    def stop(self) -> None:
        self.client.close()
        stop_database(self.record)


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="te-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server(short_folder: Path) -> Iterator[Server]:
    running = Server(short_folder)
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts databases that end with the test."""
    started: list[Server] = []
    with tempfile.TemporaryDirectory(prefix="te-") as name:

        def starting(folder: Path | None = None, **options: Any) -> Server:
            if folder is None:
                folder = Path(name) / str(len(started))
                folder.mkdir()
            started.append(Server(folder, **options))
            return started[-1]

        yield starting
        for running in started:
            running.stop()


@pytest.fixture(scope="session")
def tf_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that build_tf_models.py fills."""
    pytest.importorskip("ai_edge_litert")
    folder = tmp_path_factory.mktemp("tf")
    done = subprocess.run(
        [sys.executable, str(BUILDER), str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ,
    )
    if "No module named 'tensorflow'" in done.stderr:
        pytest.skip("TensorFlow is not installed")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder
