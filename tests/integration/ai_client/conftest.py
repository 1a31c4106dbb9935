"""One AI database, one without a module, and one cluster for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from ai_database import Server, cluster, server

from taskensemble.ai import Client


@pytest.fixture(scope="session")
def database() -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="session")
def shards() -> Iterator[list[Server]]:
    with cluster() as running:
        yield running


@pytest.fixture(params=["single", "cluster"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of an empty database, of either kind."""
    for name in ("SSDB", "SR_DB_TYPE", "SSKEYIN", "SSKEYOUT"):
        monkeypatch.delenv(name, raising=False)
    servers = [request.getfixturevalue("database")] if request.param == "single" else request.getfixturevalue("shards")
    made = Client(request.param == "cluster", address=servers[0].address)
    made.flush_db([server.address for server in servers])
    yield made
    made.close()
