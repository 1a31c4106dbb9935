"""Databases as servers: started, found, configured, stopped; alone, as a cluster, restricted."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from taskensemble.database import (
    DatabaseOptions,
    attach_database,
    configure_database,
    free_port,
    is_alive,
    lives_here,
    read_record,
    start_database,
    stop_database,
    write_record,
)
from taskensemble.database.server import free_socket
from taskensemble.engine.host import start_time
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.errors import DatabaseError, DatabaseFilesError, InputError
from tests.acl_permits import of_category, permitted


def client(address: str) -> Any:
    host, _, port = address.rpartition(":")
    return redis.Redis(host=host, port=int(port), socket_timeout=60)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., DatabaseAddressRecord]]:
    started: list[DatabaseAddressRecord] = []

    def starting(**options: Any) -> DatabaseAddressRecord:
        started.append(start_database(DatabaseOptions(**({"name": "db", "folder": tmp_path} | options))))
        return started[-1]

    yield starting
    for record in started:
        stop_database(record)


def test_a_database_answers_as_soon_as_it_is_started_and_leaves_nothing_when_stopped(
    start: Callable[..., DatabaseAddressRecord], tmp_path: Path
) -> None:
    record = start(identifier="plate")
    assert record.identifier == "plate"
    assert record.addresses[0].startswith("127.0.0.1:")
    assert record.host == socket.gethostname()
    assert client(record.addresses[0]).execute_command("AI.TENSORSET", "t", "FLOAT", 1) == b"OK"
    assert is_alive(record)
    stop_database(record)
    assert not is_alive(record)
    assert not any(map(lives, record.processes))
    assert (tmp_path / "db.log").exists()
    stop_database(record)


def test_a_pid_that_another_server_has_got_since_is_left_alone() -> None:
    # A process whose command line says that it is a server, as a database's does, and whose pid an old record has.
    with subprocess.Popen(["some-server", "600"], executable="/bin/sleep") as other:
        try:
            record = DatabaseAddressRecord(
                identifier="old", addresses=("127.0.0.1:1",), processes=(other.pid,), begun=(start_time(other.pid) - 1,)
            )
            assert not lives_here(record)
            stop_database(record)
            assert other.poll() is None
            assert lives_here(record.model_copy(update={"begun": (start_time(other.pid),)}))
        finally:
            other.kill()


def test_a_server_without_a_supervisor_is_ready_within_a_moment(start: Callable[..., DatabaseAddressRecord]) -> None:
    took = []
    for number in range(3):
        begun = time.monotonic()
        start(name=f"db{number}", supervise=False)
        took.append(time.monotonic() - begun)
    # 0.05 s on an idle machine; the bound is that of the ready check on a busy one.
    assert min(took) < 1.0


def test_it_listens_on_a_port_and_on_a_socket(start: Callable[..., DatabaseAddressRecord], tmp_path: Path) -> None:
    port = free_port()
    path = f"/tmp/te-{os.getpid()}-{port}.sock"
    record = start(port=port, unix_socket=path, socket_permissions=0o700, supervise=False)
    assert record.addresses == (f"unix://{path}",)
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert client(f"127.0.0.1:{port}").ping()
    assert redis.Redis(unix_socket_path=path).ping()


def test_what_cannot_be_started_is_refused_with_the_reason_and_the_way_out(
    start: Callable[..., DatabaseAddressRecord], tmp_path: Path
) -> None:
    taken = start(supervise=False)
    port = int(taken.addresses[0].rpartition(":")[2])
    with pytest.raises(DatabaseError, match=f"port={port} is in use on 127.0.0.1: give another port"):
        start(name="other", port=port)
    with pytest.raises(InputError, match="interface='nowhere0'"):
        start(name="other", interfaces=("nowhere0",))
    with pytest.raises(InputError, match="shards=2"):
        start(name="other", shards=2)
    with pytest.raises(InputError, match="longer than 107 bytes"):
        start(name="other", unix_socket="/tmp/" + "x" * 120)
    with pytest.raises(InputError, match="'port' cannot be configured"):
        start(name="other", settings={"port": "1"})
    with pytest.raises(InputError, match="is no configuration"):
        start(name="other", settings={"maxmemory": "1gb\nloadmodule /tmp/evil.so"})
    with pytest.raises(DatabaseError, match="no-such-setting"):
        start(name="other", settings={"no-such-setting": "1"})


@pytest.mark.parametrize("name", ["my model", 'a"b', "a'b", "a\\b", "#a"])
def test_a_database_starts_under_any_name(
    start: Callable[..., DatabaseAddressRecord], tmp_path: Path, name: str
) -> None:
    """A space or a quotation mark in the name of a member does not end the line of the configuration that has it."""
    record = start(name=name, supervise=False, settings={"save": "3600 1"})
    client(record.addresses[0]).set("x", "1")
    stop_database(record)
    assert (tmp_path / f"{name}.rdb".replace("\\", "_")).exists()
    with pytest.raises(InputError, match="line breaks"):
        start(name=f"{name}\nloadmodule /tmp/evil.so", supervise=False)


def test_settings_are_taken_at_the_start_and_while_it_runs(start: Callable[..., DatabaseAddressRecord]) -> None:
    record = start(settings={"maxmemory": "300mb", "save": "60 1"}, supervise=False)
    server = client(record.addresses[0])
    assert server.config_get("maxmemory") == {"maxmemory": str(300 * 2**20)}
    assert server.config_get("save") == {"save": "60 1"}
    configure_database(record, "maxmemory-policy", "allkeys-lru")
    assert server.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
    with pytest.raises(DatabaseError, match="nonsense='1' was refused"):
        configure_database(record, "nonsense", "1")


def test_servers_and_workers_keep_to_the_cpus_they_were_given(start: Callable[..., DatabaseAddressRecord]) -> None:
    cpu = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    record = start(cpus=(cpu,))
    assert [os.sched_getaffinity(pid) for pid in record.processes] == [{cpu}, {cpu}]
    assert os.sched_getaffinity(0) == before
    with pytest.raises(InputError, match=r"cpus=\[4000\]"):
        start(name="other", cpus=(4000,))


def test_what_was_checkpointed_is_there_again_after_a_restart(start: Callable[..., DatabaseAddressRecord]) -> None:
    settings = {"save": "3600 1"}
    record = start(settings=settings, supervise=False)
    client(record.addresses[0]).execute_command("AI.TENSORSET", "t", "INT64", 2, "VALUES", 4, 5)
    stop_database(record)
    record = start(settings=settings, supervise=False)
    assert client(record.addresses[0]).execute_command("AI.TENSORGET", "t", "VALUES") == [4, 5]


def test_another_server_binary_can_be_named(
    start: Callable[..., DatabaseAddressRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKENSEMBLE_DB_SERVER", "/nowhere/redis-server")
    with pytest.raises(DatabaseError, match="TASKENSEMBLE_DB_SERVER='/nowhere/redis-server'"):
        start()


def test_a_record_is_found_again_by_its_file(start: Callable[..., DatabaseAddressRecord], tmp_path: Path) -> None:
    record = start(supervise=False, restricted=True)
    path = tmp_path / "taskensemble_db.json"
    write_record(path, record)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_record(path) == record
    assert is_alive(read_record(path))
    path.write_text("{}")
    with pytest.raises(DatabaseFilesError):
        read_record(path)
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "nothing")


def test_a_recycled_pid_is_left_alone(start: Callable[..., DatabaseAddressRecord]) -> None:
    record = start(supervise=False)
    stop_database(record)
    stop_database(record.model_copy(update={"processes": (os.getpid(),)}))


class TestCluster:
    def test_three_shards_serve_all_slots_and_are_found_by_any_of_them(
        self, start: Callable[..., DatabaseAddressRecord]
    ) -> None:
        record = start(shards=3, supervise=False)
        assert record.cluster
        assert len(set(record.addresses)) == 3
        host, _, port = record.addresses[1].rpartition(":")
        cluster: Any = redis.RedisCluster(host=host, port=int(port))
        for index in range(30):
            assert cluster.execute_command("AI.TENSORSET", f"t{index}", "FLOAT", 1) == b"OK"
        cluster.close()
        attached = attach_database(record.addresses[2], "again")
        assert attached.external
        assert attached.cluster
        assert attached.addresses == record.addresses


class TestAttached:
    def test_an_external_database_is_checked_and_never_stopped(
        self, start: Callable[..., DatabaseAddressRecord]
    ) -> None:
        record = start(supervise=False)
        attached = attach_database(f"redis://{record.addresses[0]}", "theirs")
        assert (attached.identifier, attached.addresses, attached.external) == ("theirs", record.addresses, True)
        stop_database(attached)
        assert is_alive(record)

    def test_what_is_no_database_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DatabaseError, match="No database answers"):
            attach_database(f"127.0.0.1:{free_port()}")
        for url in ("nonsense", "http://host:1", "redis://host:port", "redis://host"):
            with pytest.raises(InputError, match="give redis://"):
                attach_database(url)

    def test_a_server_without_the_module_is_refused(self, tmp_path: Path) -> None:
        import subprocess

        from taskensemble.database import server_binary

        path = f"/tmp/te-{os.getpid()}-plain.sock"
        plain = subprocess.Popen(
            [
                server_binary(),
                "--port",
                "0",
                "--unixsocket",
                path,
                "--dir",
                str(tmp_path),
                "--logfile",
                str(tmp_path / "log"),
            ]
        )
        try:
            deadline = time.monotonic() + 30
            while not os.path.exists(path):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(DatabaseError, match=r"does not know AI\.TENSORSET"):
                attach_database(f"unix://{path}")
        finally:
            plain.terminate()
            plain.wait(30)


class TestRestricted:
    def test_members_may_compute_but_not_administer(self, start: Callable[..., DatabaseAddressRecord]) -> None:
        record = start(restricted=True, supervise=False, settings={"enable-debug-command": "yes"})
        member = client(record.addresses[0])
        assert member.execute_command("AI.TENSORSET", "t", "FLOAT", 1) == b"OK"
        assert member.info("everything")["redis_version"]
        assert member.execute_command("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE")
        for command in (
            ("CONFIG", "GET", "*"),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("ACL", "LIST"),
            ("DEBUG", "SLEEP", "0"),
            ("FLUSHALL",),
            ("REPLICAOF", "127.0.0.1", "1"),
            ("SAVE",),
            ("SHUTDOWN",),
            ("AI._WORKER", "LIST"),
            ("AI.CONFIG", "WORKER_TIMEOUT", "100"),
            ("MODULE", "LIST"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                member.execute_command(*command)
        configure_database(record, "maxmemory", "100mb")
        assert record.user == "taskensemble"
        assert record.password

    def test_of_all_commands_of_the_server_members_have_those_alone_that_are_meant(
        self, start: Callable[..., DatabaseAddressRecord]
    ) -> None:
        record = start(restricted=True, supervise=False, secret="s" * 32)
        administrator = redis.Redis.from_url(f"redis://{record.user}:{record.password}@{record.addresses[0]}")
        allowed = permitted(administrator, "default", "x")
        administration = of_category(administrator, "admin") | of_category(administrator, "dangerous")
        assert {name for name in allowed & administration if "|" not in name} == {"info", "keys", "sort"}
        assert {name.partition("|")[0] for name in allowed & administration if "|" in name} <= {"cluster"}
        scripts = {"eval", "evalsha", "script|load", "script|exists"}
        assert allowed & of_category(administrator, "scripting") == scripts
        assert {"ai.tensorset", "ai.modelexecute", "ai.dagexecute", "ai.scriptexecute"} <= allowed
        assert "ai._worker" not in allowed
        administrator.close()

    def test_a_url_with_a_user_is_enough_to_administer(self, start: Callable[..., DatabaseAddressRecord]) -> None:
        secret = "a:b@c/d %"
        record = start(restricted=True, supervise=False, secret=secret)
        with pytest.raises(DatabaseError, match="WRONGPASS"):
            attach_database(f"redis://taskensemble:wrong@{record.addresses[0]}")
        attached = attach_database(f"redis://taskensemble:{quote(secret, safe='')}@{record.addresses[0]}")
        assert (attached.user, attached.password) == ("taskensemble", secret)
        configure_database(attached, "maxmemory", "100mb")
        configure_database(attached, "requirepass", "of:default")
        configure_database(
            attach_database(f"redis://taskensemble:{quote(secret, safe='')}@{record.addresses[0]}"), "maxmemory", "0"
        )
        with pytest.raises(DatabaseError, match="NOPERM"):
            configure_database(attach_database(f"redis://:of%3Adefault@{record.addresses[0]}"), "maxmemory", "0")


def test_inference_workers_of_this_node_come_through_a_socket_that_only_this_user_may_use(
    start: Callable[..., DatabaseAddressRecord], tmp_path: Path
) -> None:
    record = start()
    (path,) = tmp_path.glob("db-*.sock")
    assert path.stat().st_mode & 0o777 == 0o700
    assert record.addresses[0].startswith("127.0.0.1:")
    command = Path(f"/proc/{record.processes[-1]}/cmdline").read_bytes().split(b"\0")
    assert f"unix://{path}".encode() in command


def test_a_folder_whose_path_is_too_long_for_a_socket_serves_over_tcp(
    start: Callable[..., DatabaseAddressRecord], tmp_path: Path
) -> None:
    record = start(folder=tmp_path / ("long" * 25))
    command = Path(f"/proc/{record.processes[-1]}/cmdline").read_bytes().split(b"\0")
    assert record.addresses[0].encode() in command


def test_the_socket_of_a_server_that_runs_is_left_to_it(tmp_path: Path) -> None:
    path = free_socket(tmp_path, "db")
    assert path is not None
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert free_socket(tmp_path, "db") is None
    assert free_socket(tmp_path, "db") == path, "nobody answers there any more"
