"""One AI database for all tests of this folder, and a producer that feeds it."""

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


@pytest.fixture
def client(database: ai_database.Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    for name in ("SSKEYIN", "SSKEYOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSDB", database.address)
    monkeypatch.setenv("SR_DB_TYPE", "Standalone")
    made = Client()
    made.flush_db([database.address])
    yield made
    made.close()
