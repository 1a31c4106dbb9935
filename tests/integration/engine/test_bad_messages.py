"""The rows of the table of wrong inputs that are messages: a worker refuses each, says so in its log, and goes on."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from taskensemble.engine import messages
from taskensemble.engine.records import SCHEMA
from taskensemble.engine.store import CONTROL_CHANNEL
from tests.integration.engine import runs
from tests.integration.engine.plane import Plane, until
from tests.unit.bad_input import MESSAGES


def test_a_worker_refuses_wrong_messages_and_goes_on(plane: Plane, tmp_path: Path) -> None:
    worker = plane.worker("--slots", "2")
    run, members = runs.one_entity(tmp_path, ["/bin/true"], 4)
    plane.store.write_run(run, members)

    def message(**changes: Any) -> str:
        made = messages.member_message(run, 0, 0, 0, name="plate_0")
        made["properties"]["delivery_info"]["routing_key"] = messages.SERVICE_QUEUE
        made["headers"]["task"] = changes.get("task", messages.MEMBER)
        made["headers"] = changes.get("headers", made["headers"])
        made["content-type"] = changes.get("content_type", made["content-type"])
        if "args" in changes or "body" in changes:
            body = changes.get("body") or json.dumps([changes["args"], {}, {}]).encode()
            made["body"] = base64.b64encode(body).decode()
        return json.dumps(made)

    log = tmp_path / "w0.log"
    for name, code, _, words in MESSAGES["Messages"]:
        before = log.read_text().count(words)
        plane.store._redis.lpush(messages.SERVICE_QUEUE, eval(code, {"message": message, "run": run.run_id}))
        until(lambda before=before, words=words: log.read_text().count(words) > before, f"{name}: {plane.log('w0')}")  # type: ignore[misc]
        assert worker.poll() is None
    messages.publish_setup(plane.broker_url, run)
    assert plane.finish(run.run_id).completed == 4


def test_a_worker_refuses_wrong_orders_and_records_and_goes_on(plane: Plane, tmp_path: Path) -> None:
    """Every worker reads these: what one of them stumbled over would end them all."""
    worker = plane.worker("--slots", "2")
    client, log = plane.store._redis, tmp_path / "w0.log"

    def says(count: int, words: str) -> None:
        until(lambda: log.read_text().count(words) >= count, f"{words}: {plane.log('w0')}")

    for count, order in enumerate(("garbage", "7", '{"order": "cancel"}', "[" * 100_000), 1):
        client.publish(CONTROL_CHANNEL, order)
        says(count, "An order is refused")
    client.hset("te:queues", "te.run.x", "{}")
    client.publish(CONTROL_CHANNEL, '{"order": "queues"}')
    says(1, "The record of queue te.run.x cannot be read")
    client.hset("te:workers", "stranger", '{"name": "stranger", "of": "another version"}')
    client.zadd("te:active", {"aaa": 0.0})
    client.hset("te:{aaa}:run", mapping={"record": "{}", "schema": SCHEMA})
    client.zadd("te:active", {"aab": 0.0})
    client.set("te:{aab}:run", "a string")
    says(1, "The reaper cannot look at aab")
    run, members = runs.one_entity(tmp_path, ["/bin/true"], 4)
    plane.start(run, members)
    assert plane.finish(run.run_id).completed == 4
    until(lambda: run.run_id not in plane.store.active_runs(), "the reaper goes on with the runs after it")
    assert [found.name for found in plane.store.workers()] == ["w0"]
    assert worker.poll() is None
