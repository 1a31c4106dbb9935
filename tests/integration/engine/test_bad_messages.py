"""The rows of the table of wrong inputs that are messages: a worker refuses each, says so in its log, and goes on."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from taskensemble.engine import messages
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
