"""The same control plane as the integration tests of the engine, on a server that may be killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.plane import Plane
from tests.integration.engine.servers import Server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def plane(broker: Server, tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(broker.url, tmp_path)
    yield plane
    plane.close()
