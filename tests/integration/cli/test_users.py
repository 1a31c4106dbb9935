"""`taskensemble up --acl`: driver, worker and viewer on one control plane, each with what it needs and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from taskensemble import Experiment
from taskensemble.engine import messages
from taskensemble.engine.records import State
from taskensemble.engine.store import Store
from taskensemble.errors import TaskensembleError
from taskensemble.launch import embedded
from tests.integration.cli.test_cli import DRIVER, run
from tests.integration.engine.runs import one_entity

REFUSED = (redis.exceptions.NoPermissionError, TaskensembleError)


@pytest.fixture
def urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    monkeypatch.chdir(tmp_path)
    for name in ("TASKENSEMBLE_BROKER_URL", "TASKENSEMBLE_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    said = run("up", "--acl", "--slots", "2")
    yield dict(re.findall(r"^(driver|worker|viewer): (\S+)$", said, re.MULTILINE))
    run("down")


def users_of(folder: Path) -> set[str]:
    """Users that are connected to the control plane of a folder, the administrator excluded."""
    server = embedded.attach(folder)
    assert server is not None
    with redis.Redis.from_url(server.url) as client:
        return {str(each["user"]) for each in client.client_list()} - {"default"}


def test_the_commands_use_the_users_and_passwords_are_printed_once(urls: dict[str, str], tmp_path: Path) -> None:
    assert set(urls) == {"driver", "worker", "viewer"}
    Path("driver.py").write_text(DRIVER)
    run_id = run("run", "driver.py", 'test "$TASKENSEMBLE_MEMBER" != plate_1 && echo fine').strip()
    with Experiment("plate") as exp:
        handle = exp.reconnect(run_id)
        assert handle.wait(60).completed == 2
        # The worker, this process as a driver, and nobody as the administrator.
        assert users_of(tmp_path) == {"driver", "worker"}
    assert "plate_1" in run("status", run_id, code=1)
    assert run("logs", run_id, "plate_0") == "fine\n"
    assert len(json.loads(run("results", run_id, "--json"))) == 3
    assert Path(run("report", run_id).strip()).exists()
    assert "1 member of" in run("resume", run_id, code=1)
    assert "1 worker" in run("doctor")
    again = json.loads(run("up", "--acl", "--json"))
    assert "users" not in again
    home = embedded.ControlPaths(tmp_path).home
    assert home.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in (home / "control.json", home / "valkey.conf")} == {0}
    passwords = [url.split(":")[2].split("@")[0] for url in urls.values()]
    assert not any(word in (home / "valkey.conf").read_text() for word in passwords)
    run("down")
    said = run("up", "--slots", "1")
    assert not any(word in said for word in passwords)
    assert users_of(tmp_path) <= {"worker"}
    with redis.Redis.from_url(urls["viewer"]) as client:
        assert client.ping()


def test_each_does_its_work_and_not_the_others(urls: dict[str, str], tmp_path: Path) -> None:
    driver, worker, viewer = (Store.connect(urls[name]) for name in ("driver", "worker", "viewer"))
    record, members = one_entity(tmp_path, ["/bin/true"], 3)
    try:
        driver.write_run(record, members)
        messages.publish_setup(urls["driver"], record)
        assert driver.wait_final(record.run_id, 60).state is State.COMPLETED
        assert viewer.status(record.run_id).completed == 3
        # The driver is no worker: it neither hears remote control nor sends it.
        with redis.Redis.from_url(urls["driver"]) as client:
            for command in ("SADD _kombu.binding.celery.pidbox x", "LPUSH worker.celery.pidbox x", "GET secret"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command.split())
        # The viewer neither starts nor stops.
        with pytest.raises(REFUSED):
            viewer.cancel(record.run_id)
        with pytest.raises(REFUSED):
            messages.publish_setup(urls["viewer"], record)
        with pytest.raises(REFUSED):
            viewer.write_run(record.model_copy(update={"run_id": "other-1"}), members)
        for name in ("driver", "worker", "viewer"):
            with redis.Redis.from_url(urls[name]) as client:
                for command in ("CONFIG GET requirepass", "ACL LIST", "SHUTDOWN", "FLUSHALL", "KEYS *"):
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        client.execute_command(*command.split())
    finally:
        for store in (driver, worker, viewer):
            store.close()


def test_users_are_not_added_to_a_control_plane_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("up", "--no-workers")
    try:
        assert "taskensemble down" in run("up", "--acl", code=3)
    finally:
        run("down")
