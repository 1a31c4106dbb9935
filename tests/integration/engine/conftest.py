"""A real Valkey server for each test module, and one for a test that kills it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.plane import Plane
from tests.integration.engine.servers import Server


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="te-test-"))
    server = Server(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.client().flushall()
    return shared_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def plane(server: Server, tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(server.url, tmp_path)
    yield plane
    plane.close()
