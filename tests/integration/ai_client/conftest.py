"""One AI database and one cluster of them for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

import ai_database

from taskensemble.ai import Client


@pytest.fixture(scope="session")
def database() -> Iterator[ai_database.Database]:
    with ai_database.database() as running:
        yield running


@pytest.fixture(scope="session")
def cluster() -> Iterator[ai_database.Database]:
    with ai_database.database(shards=3) as running:
        yield running


@pytest.fixture(params=["single", "cluster"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of an empty database, of either kind."""
    for name in ("SSDB", "SR_DB_TYPE", "SSKEYIN", "SSKEYOUT"):
        monkeypatch.delenv(name, raising=False)
    running = request.getfixturevalue("database" if request.param == "single" else "cluster")
    made = Client(request.param == "cluster", address=running.address)
    made.flush_db(running.addresses)
    yield made
    made.close()
