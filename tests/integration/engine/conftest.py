"""A real Valkey server for each test module, and one for a test that kills it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.plane import Plane
from tests.integration.engine.servers import Server, running_server


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    shared_server.client().flushall()
    return shared_server


@pytest.fixture
def own_server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def plane(server: Server, tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(server.url, tmp_path)
    yield plane
    plane.close()
