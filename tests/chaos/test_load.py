"""What one control plane must hold: 100,000 members of no work, 50 workers on this machine, 200 drivers that ask at once.

Minutes on an idle machine. The figures go where TASKENSEMBLE_CHAOS_REPORT says, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from taskensemble.engine import messages
from taskensemble.engine.records import State
from taskensemble.engine.store import Store
from tests.integration.engine.plane import Plane, until
from tests.integration.engine.runs import one_entity

MEMBERS = int(os.environ.get("TASKENSEMBLE_LOAD_MEMBERS") or 100_000)
WORKERS = int(os.environ.get("TASKENSEMBLE_LOAD_WORKERS") or 50)
QUERIES = 200

pytestmark = pytest.mark.timeout(7200)


def test_a_control_plane_holds_100000_members_50_workers_and_200_drivers_that_ask_at_once(
    plane: Plane, tmp_path: Path
) -> None:
    for number in range(WORKERS):
        plane.worker("--slots", "4", wait=False)
        until(lambda number=number: len(plane.store.workers()) >= number - 3, "the one before the last", 240)  # type: ignore[misc]
    until(lambda: len(plane.store.workers()) == WORKERS, f"{WORKERS} workers", 240)
    journal = tmp_path / "journal"
    program = f'echo "$TASKENSEMBLE_MEMBER" >> {journal}'
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", program], MEMBERS, policy={"keep_outputs": "failed"})
    over = threading.Event()
    slowest: list[float] = []
    stores = [Store(plane.store_url) for _ in range(QUERIES)]

    def ask_at_once() -> None:
        with ThreadPoolExecutor(QUERIES) as drivers:
            while not over.wait(1.0):
                began = time.monotonic()
                found = list(drivers.map(lambda store: store.status(run.run_id), stores))
                slowest.append(time.monotonic() - began)
                assert all(status.size == MEMBERS for status in found)

    began = time.monotonic()
    plane.start(run, members)
    asking = ThreadPoolExecutor(1)
    asked = asking.submit(ask_at_once)
    try:
        status = plane.finish(run.run_id, 7000)
        took = time.monotonic() - began
    finally:
        over.set()
    asked.result(60)
    asking.shutdown()
    with redis.Redis.from_url(plane.broker_url, protocol=2) as client:
        peak = client.info("memory")["used_memory_peak"] / 1e6
    figures = {
        "load": f"{MEMBERS} members, {WORKERS} workers, {QUERIES} drivers",
        "seconds": round(took, 1),
        "times_asked": len(slowest),
        "slowest_200_answers_s": round(max(slowest), 2),
        "memory_of_server_mb": round(peak, 1),
        "load_average": os.getloadavg()[1],
    }
    print(json.dumps(figures))
    if report := os.environ.get("TASKENSEMBLE_CHAOS_REPORT"):
        with Path(report).open("a") as stream:
            stream.write(json.dumps(figures) + "\n")
    assert status.completed == MEMBERS
    assert {(attempt.state, attempt.attempt) for attempt in plane.store.attempts(run.run_id)} == {(State.COMPLETED, 1)}
    ran = Counter(journal.read_text().split())
    assert (len(ran), max(ran.values())) == (MEMBERS, 1)
    until(lambda: run.run_id not in plane.store.active_runs(), "the run is off the list of active ones")
    publisher = messages.Publisher(plane.broker_url)
    assert not any(publisher.length(queue.name) for queue in messages.run_queues(run))
    publisher.close()
    assert all(worker.poll() is None for worker in plane.workers)
    shutil.rmtree(tmp_path / "plate")
