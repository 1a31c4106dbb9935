from __future__ import annotations

import threading
import time

import ai_database
import numpy as np
import pytest
from ai_database import Database

from taskensemble.ai import Client
from taskensemble.ai.error import RedisDatabaseError, RedisTimeoutError

SLOW = """
def slow(x):
    for i in range(2000000):
        x = x + 1
    return x
"""


def test_a_request_that_waits_too_long_in_the_queue_is_a_timeout(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    patient = Client(False, address=database.address)
    monkeypatch.setenv("SR_MODEL_TIMEOUT", "50")
    hasty = Client(False, address=database.address)
    patient.set_script("slow", SLOW)
    patient.put_tensor("x", np.zeros(1))
    run = threading.Thread(target=patient.run_script, args=("slow", "slow", "x", "y"))
    run.start()
    deadline = time.monotonic() + 30
    while b"ai_busy_workers:0" in bytes(database.call("INFO", "MODULES")):
        assert time.monotonic() < deadline
    with pytest.raises(RedisTimeoutError, match="SR_MODEL_TIMEOUT"):
        hasty.run_script("slow", "slow", "x", "z")
    run.join()
    assert patient.get_tensor("y")[0] == 2_000_000


def test_a_slow_script_is_waited_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("SR_CMD_TIMEOUT", "1")
    client = Client(False, address=database.address)
    client.set_script("slow", SLOW)
    client.put_tensor("x", np.zeros(1))
    client.run_script("slow", "slow", "x", "y")
    assert client.get_tensor("y")[0] == 2_000_000


def test_a_server_that_stays_away_is_given_up_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_CMD_TIMEOUT", "1")
    monkeypatch.setenv("SR_CMD_INTERVAL", "100")
    with ai_database.database(supervise=False) as running:
        client = Client(cluster=False, address=running.address)
        client.put_tensor("t", np.zeros(3))
        running.stop()
        start = time.monotonic()
        with pytest.raises(RedisDatabaseError, match="cannot be reached"):
            client.get_tensor("t")
        assert time.monotonic() - start < 10
