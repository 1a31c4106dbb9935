"""The embedded control plane, with its real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from taskensemble import Experiment
from taskensemble.database import read_record
from taskensemble.errors import ControlPlaneError, InputError
from taskensemble.launch import control, embedded


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    server = embedded.attach(tmp_path)
    if server is not None:
        embedded.stop(server)


def client(server: embedded.EmbeddedServer) -> redis.Redis:
    return redis.Redis(host=server.host, port=server.port, password=server.password)


def eventually(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_server_refuses_those_who_do_not_know_its_password(folder: Path) -> None:
    server = embedded.start(folder)
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host=server.host, port=server.port).ping()
    assert client(server).ping()
    assert len(server.password) >= 32


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.2"])
def test_a_server_listens_on_loopback_alone_and_besides_on_the_address_that_it_is_told(folder: Path, bind: str) -> None:
    server = embedded.start(folder, bind=bind)
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path("/proc/net", table).read_text().splitlines()[1:]]
    listening = {row[1].rpartition(":")[0] for row in rows if row[3] == "0A" and int(row[1][-4:], 16) == server.port}
    assert {".".join(str(byte) for byte in reversed(bytes.fromhex(found))) for found in listening} == {
        "127.0.0.1",
        bind,
    }


def test_the_password_is_in_files_of_mode_0600_and_in_no_argument_list(folder: Path) -> None:
    server = embedded.start(folder)
    paths = embedded.ControlPaths(folder)
    assert paths.home.stat().st_mode & 0o777 == 0o700
    for path in (paths.record, paths.configuration, paths.log):
        assert path.stat().st_mode & 0o777 == 0o600, path
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                assert server.password.encode() not in (entry / "cmdline").read_bytes()
            except OSError:
                continue


def test_it_opens_no_unix_socket(folder: Path) -> None:
    server = embedded.start(folder)
    assert client(server).config_get("unixsocket") == {"unixsocket": ""}
    sockets = [path for path in folder.rglob("*") if path.is_socket()]
    assert not sockets


def test_what_was_written_is_there_when_the_server_comes_back_at_its_old_address(folder: Path) -> None:
    first = embedded.start(folder)
    client(first).set("kept", "yes")
    embedded.stop(first)
    assert embedded.attach(folder) is None
    second = embedded.start(folder)
    assert client(second).get("kept") == b"yes"
    assert (second.port, second.password) == (first.port, first.password)


def test_a_second_owner_is_refused_with_the_name_of_the_first(folder: Path) -> None:
    embedded.start(folder)
    with pytest.raises(ControlPlaneError, match=str(os.getpid())):
        embedded.start(folder)


def test_a_port_that_was_taken_meanwhile_is_replaced_by_another(folder: Path) -> None:
    import socket

    first = embedded.start(folder)
    embedded.stop(first)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", first.port))
        squatter.listen()
        second = embedded.start(folder)
        assert second.port != first.port
        assert client(second).ping()


def test_a_server_ends_with_the_process_that_started_it_even_by_sigkill(folder: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom taskensemble.launch import embedded\n"
        f"embedded.start(Path({str(folder)!r}))\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    assert driver.stdout.readline() == b"up\n"
    server = embedded.attach(folder)
    assert server is not None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    eventually(lambda: embedded.attach(folder) is None)
    with pytest.raises(redis.ConnectionError):
        client(server).ping()


def test_a_kept_server_is_found_from_the_folders_below_it(folder: Path) -> None:
    below = folder / "project" / "plate"
    below.mkdir(parents=True)
    assert embedded.kept_above(below) is None
    server = embedded.start(folder, kept=True)
    assert embedded.kept_above(below) == server
    joined = control.for_driver(below, None, None)
    assert not joined.is_own
    joined.store.ping()
    joined.close()
    assert client(server).ping()


def test_a_closed_control_plane_comes_back_when_its_records_are_asked_for(folder: Path) -> None:
    plane = control.for_driver(folder, None, None)
    plane.store.ping()
    plane.close()
    assert embedded.attach(folder) is None
    plane.store.ping()
    assert embedded.attach(folder) is not None
    plane.close()


def test_a_broker_that_is_given_is_used_and_nothing_is_started(folder: Path) -> None:
    server = embedded.start(folder)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    plane = control.for_driver(elsewhere, server.url, None)
    plane.store.ping()
    plane.start_worker(None)
    plane.close()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("broker", "store", "named"),
    [
        ("amqp://guest@localhost//", None, "store="),
        ("http://localhost", None, "broker="),
        ("redis://localhost", "amqp://localhost", "store="),
        (None, "redis://localhost", "broker="),
    ],
)
def test_a_broker_or_store_that_cannot_be_used_is_named(broker: str | None, store: str | None, named: str) -> None:
    with pytest.raises(InputError, match=named):
        control.given(broker, store)


def test_passwords_do_not_appear_in_messages() -> None:
    with pytest.raises(InputError) as caught:
        control.given("amqp://user:secret@host//", None)
    assert "secret" not in str(caught.value)


def test_no_other_user_reads_a_secret_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords and secret variables are in files that their user alone can reach; what members write is as the umask says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_TOKEN", "xyzzy-of-the-driver")
    before = os.umask(0)
    try:
        with Experiment("exp", slots=1, export_env=["SOME_TOKEN"]) as exp:
            database = exp.create_database(port=0, restricted=True)
            exp.start(database)
            model = exp.create_model("model", exp.create_run_settings("/bin/true"))
            exp.start(model, quiet=True)
            assert exp.get_status(model) == ["Completed"]
            control = embedded.read(tmp_path / "exp")
            record = read_record(next(tmp_path.rglob("taskensemble_db.json")))
            assert control is not None
            assert record.password
            secrets = [text.encode() for text in (control.password, record.password, "xyzzy-of-the-driver")]
            holding = [
                path for path in tmp_path.rglob("*") if path.is_file() and any(s in path.read_bytes() for s in secrets)
            ]
            assert {path.name for path in holding} >= {"control.json", "valkey.conf", "taskensemble_db.json"}
            for path in holding:
                way = [each for each in (path, *path.parents) if each.is_relative_to(tmp_path / "exp")]
                assert any(not each.stat().st_mode & 0o077 for each in way), path
            exp.stop(database)
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "hash # and space", "ünï"])
def test_a_server_starts_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    """A quotation mark in it does not end the line of the configuration that names it."""
    (tmp_path / name).mkdir()
    server = embedded.start(tmp_path / name)
    try:
        assert client(server).config_get("dir") == {"dir": str(tmp_path / name / ".taskensemble")}
    finally:
        embedded.stop(server)
