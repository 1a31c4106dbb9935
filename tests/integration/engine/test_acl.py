"""Driver, worker and viewer as users of their own: a run works, and nobody can do more than that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from taskensemble.engine import acl
from taskensemble.engine.records import State
from taskensemble.engine.store import Store
from tests.acl_permits import of_category, permitted
from tests.integration.engine import runs
from tests.integration.engine.plane import Plane
from tests.integration.engine.servers import Server

Address = Callable[[str], str]


@pytest.fixture
def address(server: Server) -> Address:
    """Adds the users to the server; `address("worker")` is its URL for one of them."""
    names = ("driver", "worker", "viewer")
    lines = acl.users({name: hashlib.sha256(f"{name}-password".encode()).hexdigest() for name in names})
    with server.client() as client:
        for line in lines.splitlines():
            client.execute_command("ACL", "SETUSER", *line.split()[1:])
    return lambda name: f"redis://{name}:{name}-password@127.0.0.1:{server.port}/0"


def test_a_run_needs_no_more_than_its_users_have(address: Address, tmp_path: Path) -> None:
    worker_plane = Plane(address("worker"), tmp_path)
    driver, viewer = Store.connect(address("driver")), Store.connect(address("viewer"))
    try:
        worker_plane.worker("--slots", "2", "--lease", "5")
        driver_plane = Plane(address("driver"), tmp_path)
        run, members = runs.one_entity(
            tmp_path, ["/bin/sh", "-c", "test $TASKENSEMBLE_ATTEMPT = 2"], 4, policy={"retries": 1, "retry_delay": 0.2}
        )
        driver_plane.start(run, members)
        status = driver.wait_final(run.run_id, 60)
        assert status.completed == 4, worker_plane.log("w0")
        assert "NOPERM" not in worker_plane.log("w0")
        assert viewer.status(run.run_id).state is State.COMPLETED
        assert len(viewer.attempts(run.run_id)) == 4
        assert viewer.entity_status(run.run_id)[0].counters.completed == 4
        assert [worker.name for worker in viewer.workers()] == ["w0"]
        assert list(viewer.watch(run.run_id, timeout=1))[-1].kind == "run"
        long, others = runs.one_entity(tmp_path / "long", ["/bin/sleep", "60"], 2)
        driver_plane.start(long, others)
        driver.cancel(long.run_id, reason="enough")
        assert driver.wait_final(long.run_id, 30).state is State.CANCELLED
        driver_plane.store.close()
    finally:
        worker_plane.close()
        driver.close()
        viewer.close()


@pytest.mark.parametrize("name", ["driver", "worker", "viewer"])
@pytest.mark.parametrize(
    "command",
    ["CONFIG GET *", "SHUTDOWN", "FLUSHALL", "FLUSHDB", "MODULE LIST", "ACL LIST", "REPLICAOF NO ONE", "KEYS *",
     "CLIENT KILL TYPE normal", "SCRIPT FLUSH", "MONITOR", "GET somebody-elses"],
)  # fmt: skip
def test_nobody_administers_the_server(address: Address, name: str, command: str) -> None:
    with redis.Redis.from_url(address(name)) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize("name", ["driver", "worker", "viewer"])
def test_of_all_commands_of_the_server_nobody_has_more_than_is_meant(
    server: Server, address: Address, name: str
) -> None:
    assert address(name)
    with server.client() as administrator:
        allowed = permitted(administrator, name, "te:{x}:run")
        administration = of_category(administrator, "admin") | of_category(administrator, "dangerous")
        scripting, writing = of_category(administrator, "scripting"), of_category(administrator, "write")
    assert {"get", "hgetall", "xread"} <= allowed
    writers = name != "viewer"
    assert allowed & administration == ({"info", "client|unblock"} if writers else {"info"})
    scripts = {"eval", "evalsha", "script|load", "script|exists"}
    assert allowed & scripting == (scripts if writers else set())
    assert bool(allowed & writing) is writers


def test_a_viewer_changes_nothing_and_sees_no_secret(address: Address, tmp_path: Path) -> None:
    run, members = runs.one_entity(tmp_path, ["/bin/true"])
    with Store.connect(address("driver"))._redis as client:
        driver = Store.connect(address("driver"))
        driver.write_run(run, members, secrets={"0:API_KEY": "xyzzy"})
        assert driver.secrets(run.run_id) == {"0:API_KEY": "xyzzy"}
        client.rpush("te.service", "x")
    viewer = Store.connect(address("viewer"))
    refused = redis.exceptions.NoPermissionError
    with pytest.raises(refused):
        viewer.claim(run.run_id, "w", "n", [(0, 0, "t")])
    with pytest.raises(refused):
        viewer.cancel(run.run_id)
    with pytest.raises(refused):
        viewer.secrets(run.run_id)
    with pytest.raises(refused):
        viewer.databases(str(tmp_path))
    with pytest.raises(refused):
        viewer._redis.lrange("te.service", 0, -1)
    with pytest.raises(refused):
        viewer._redis.set(f"te:{{{run.run_id}}}:state", "c")
    with pytest.raises(refused):
        viewer._redis.publish("te:control", "{}")
    viewer.close()
    driver.close()
