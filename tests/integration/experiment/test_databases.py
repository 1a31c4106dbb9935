"""Databases and ML assets of an experiment: real servers, real inference workers."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskensemble import Experiment, Status
from taskensemble.ai import Client
from taskensemble.database import read_record
from taskensemble.engine.host import start_time
from taskensemble.errors import AssetError, DatabaseError, DatabaseIdentifierError, RunNotFoundError
from taskensemble.launch import embedded
from tests.integration.experiment.drivers import Driver, eventually

torch = pytest.importorskip("torch")

COMMAND = [sys.executable, "-m", "taskensemble.cli.main"]

USE = """
import json, os, time
import numpy as np
from taskensemble.ai import Client
began = time.time()
client = Client()
client.put_tensor("x", np.array([1.0, 2.0], dtype=np.float32))
client.run_script("prep", "half", ["x"], ["h"])
client.run_model("double", inputs=["h"], outputs=["y"])
json.dump({"y": client.get_tensor("y").tolist(), "began": began}, open("result.json", "w"))
"""


@pytest.fixture
def archive() -> bytes:
    class Double(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x * 2

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(Double(), torch.ones(2)), buffer)
    return buffer.getvalue()


def children() -> set[str]:
    """What this process has started and what lives."""
    known = {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}
    return {pid for pid in known if start_time(int(pid))}


def users(exp: Experiment, folder: Path, replicas: int = 2) -> Any:
    (folder / "use.py").write_text(USE)
    program = exp.create_run_settings(exe=sys.executable, exe_args=str(folder / "use.py"))
    return exp.create_ensemble("users", replicas=replicas, run_settings=program)


def test_assets_are_in_the_database_before_the_first_member_runs(
    exp: Experiment, tmp_path: Path, archive: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    db = exp.create_database(port=0, interface="lo")
    ensemble = users(exp, tmp_path)
    ensemble.add_ml_model("double", "TORCH", model=archive, device="CPU")
    ensemble.add_script("prep", script="def half(x):\n    return x / 2\n", device="CPU")
    run = exp.start(db, ensemble, quiet=True, summary=True)
    rows = exp.results(ensemble)
    assert [row["result"]["y"] for row in rows] == [[1.0, 2.0], [1.0, 2.0]]
    events = list(exp._connection.working().store.watch(run.run_id, after="0", timeout=1))
    loaded = next(event.time for event in events if event.kind == "assets")
    assert loaded <= min(event.time for event in events if event.kind == "start")
    assert loaded <= min(row["result"]["began"] for row in rows)
    printed = capsys.readouterr().out
    assert "double: TORCH model, CPU" in printed
    assert "prep: script, CPU" in printed
    client = Client(False, address=db.get_address()[0])
    assert client.get_tensor("users_1.y").tolist() == [1.0, 2.0]
    assert exp.get_status(db) == [Status.RUNNING]
    assert exp.db_identifiers == {"orchestrator"}
    exp.stop(db)
    assert exp.get_status(db) == [Status.CANCELLED]
    assert not db.is_active()
    exp.stop(db)


def test_a_failing_asset_starts_no_member_and_what_the_start_brought_up_is_stopped(
    exp: Experiment, tmp_path: Path
) -> None:
    db = exp.create_database(port=0, interface="lo")
    ensemble = users(exp, tmp_path)
    ensemble.add_ml_model("broken", "TORCH", model=b"this is no archive", device="CPU")
    before = children()
    with pytest.raises(AssetError, match="broken"):
        exp.start(db, ensemble, quiet=True)
    assert not db.is_active()
    assert embedded.attach(Path(exp.exp_path)) is None
    assert children() <= before
    assert exp.get_status(ensemble) == [Status.CANCELLED] * 2
    assert not list(Path(exp.exp_path).glob("users/*/*.out"))


def test_a_script_that_does_not_compile_fails_the_run_without_blocking_too(exp: Experiment, tmp_path: Path) -> None:
    db = exp.create_database(port=0, interface="lo")
    ensemble = users(exp, tmp_path)
    ensemble.add_script("wrong", script="def half(x):\n    return undefined(x)\n")
    with pytest.raises(AssetError, match="wrong"):
        exp.start(db, ensemble, block=False)


def test_a_port_in_use_raises_and_nothing_is_left(exp: Experiment, tmp_path: Path) -> None:
    before = children()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        db = exp.create_database(port=port, interface="lo")
        with pytest.raises(DatabaseError, match=str(port)):
            exp.start(db, users(exp, tmp_path), quiet=True)
    assert exp.get_status(db) == [Status.NEVER_STARTED]
    assert children() <= before


def test_assets_without_a_database_are_refused_before_anything_starts(
    exp: Experiment, tmp_path: Path, archive: bytes
) -> None:
    ensemble = users(exp, tmp_path)
    ensemble.add_ml_model("double", "TORCH", model=archive)
    with pytest.raises(DatabaseError, match="double"):
        exp.start(ensemble)
    assert not Path(exp.exp_path).exists()


def test_several_databases_are_told_apart_by_their_identifiers(exp: Experiment) -> None:
    first = exp.create_database(port=0, db_identifier="first")
    second = exp.create_database(port=0, db_identifier="second")
    model = exp.create_model("model", exp.create_run_settings(exe="/usr/bin/env"))
    exp.start(first, second, model, quiet=True)
    environment = (Path(exp.exp_path) / "model" / "model.out").read_text()
    assert f"SSDB_first={first.get_address()[0]}\n" in environment
    assert f"SSDB_second={second.get_address()[0]}\n" in environment
    with pytest.raises(DatabaseIdentifierError, match="first"):
        exp.create_database(port=0, db_identifier="first")
    with pytest.raises(DatabaseIdentifierError, match="second"):
        exp.start(second)
    exp.stop(first, second)
    exp.start(exp.create_database(port=0, db_identifier="first"))


def test_a_database_of_somebody_else_is_attached_used_and_not_stopped(exp: Experiment, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Experiment("owner", exp_path=tmp_path / "other") as owner:
        theirs = owner.create_database(port=0)
        owner.start(theirs)
        ours = exp.attach_database(theirs.get_address()[0])
        model = exp.create_model("model", exp.create_run_settings(exe="/usr/bin/env"))
        exp.start(model, quiet=True)
        assert f"SSDB={theirs.get_address()[0]}\n" in (Path(exp.exp_path) / "model" / "model.out").read_text()
        exp.stop(ours)
        assert theirs.is_active()
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:1"):
        exp.attach_database("127.0.0.1:1")


def test_a_running_database_is_found_again_by_its_checkpoint_file(exp: Experiment, tmp_path: Path) -> None:
    db = exp.create_database(port=0)
    exp.start(db)
    Client(False, address=db.get_address()[0]).put_tensor("kept", np.zeros(2))
    (tmp_path / "other").mkdir()
    other = Experiment("other", exp_path=tmp_path / "other")
    again = other.reconnect_orchestrator(db.checkpoint_file)
    assert again.get_address() == db.get_address()
    assert again.is_active()
    assert other.reconnect_orchestrator(db.checkpoint_file) is again
    with pytest.raises(FileNotFoundError):
        other.reconnect_orchestrator("nowhere.json")
    # The description of the driver that started it names the same servers.
    assert other.get_status(db) == [Status.RUNNING]
    other.stop(db)
    assert not again.is_active()
    assert not db.is_active()
    assert exp.get_status(db) == [Status.FAILED]


def test_leaving_an_experiment_ends_its_databases_and_nobody_elses(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with Experiment("first", tmp_path / "first") as first:
        database = first.create_database(port=0)
        first.start(database)
        with Experiment("second", tmp_path / "second") as second:
            assert second.reconnect_orchestrator(database.checkpoint_file).is_active()
        assert database.is_active()
    assert not database.is_active()


def test_a_driver_that_ends_leaves_nothing_of_its_database(tmp_path: Path) -> None:
    driver = "import os; from taskensemble import Experiment; exp = Experiment('e'); exp.start(exp.create_database(port=0)); "
    subprocess.run([sys.executable, "-c", driver + "os._exit(0)"], cwd=tmp_path, check=True, timeout=120)

    def left() -> list[str]:
        lines = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                lines.append(path.read_bytes().decode(errors="replace"))
        return [line for line in lines if str(tmp_path) in line]

    eventually(lambda: not left(), what="the end of its server and supervisor")


def test_a_database_that_was_never_started_cannot_be_stopped(exp: Experiment) -> None:
    with pytest.raises(RunNotFoundError, match="orchestrator"):
        exp.stop(exp.create_database(port=0))


def test_a_resumed_run_has_its_assets_again(exp: Experiment, tmp_path: Path, archive: bytes) -> None:
    db = exp.create_database(port=0)
    program = exp.create_run_settings(exe="/bin/sh", exe_args=["-c", "test -e again || { touch again; exit 1; }"])
    ensemble = exp.create_ensemble("once", replicas=2, run_settings=program)
    ensemble.add_ml_model("double", "TORCH", model=archive)
    failed = exp.start(db, ensemble, quiet=True)
    assert failed.status().failed == 2
    exp.stop(db)
    again = exp.create_database(port=0)
    exp.start(again)
    assert exp.resume(failed.run_id, quiet=True).status().completed == 2
    assert Client(False, address=again.get_address()[0]).model_exists("double")


def test_a_killed_driver_takes_its_database_and_inference_workers_with_it(
    driver: Callable[..., Driver], tmp_path: Path, archive: bytes
) -> None:
    (tmp_path / "model.pt").write_bytes(archive)
    killed = driver(
        """
        from taskensemble import Experiment
        exp = Experiment("exp", slots=2)
        db = exp.create_database(port=0)
        ens = exp.create_ensemble("ens", replicas=2, run_settings=exp.create_run_settings(exe="/bin/sleep", exe_args="600"))
        ens.add_ml_model("double", "TORCH", model_path="model.pt")
        exp.start(db, ens, block=False)
        print("loaded", flush=True)
        exp.poll()
        """
    )
    killed.says("loaded")
    assert any("inference" in line for line in killed.left())
    killed.signal(9)
    killed.wait()
    eventually(lambda: not killed.left(), timeout=30, what="the end of every process")


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """A control plane of `taskensemble up` for the drivers in the folder."""
    subprocess.run([*COMMAND, "up", "--no-workers"], check=True, capture_output=True, timeout=60)
    yield tmp_path
    subprocess.run([*COMMAND, "down"], check=True, capture_output=True, timeout=60)


def test_down_ends_the_database_of_a_driver_that_was_killed(driver: Callable[..., Driver], kept: Path) -> None:
    killed = driver(
        """
        import time
        from taskensemble import Experiment
        from taskensemble.ai import Client
        exp = Experiment("exp")
        db = exp.create_database(port=0)
        exp.start(db)
        Client(False, address=db.get_address()[0]).set_script("half", "def half(x):\\n    return x / 2\\n", "CPU")
        print("loaded", flush=True)
        time.sleep(600)
        """
    )
    killed.says("loaded")
    killed.signal(9)
    killed.wait()
    address = read_record(kept / "exp" / "orchestrator" / "taskensemble_db.json").addresses[0]
    assert Client(False, address=address).model_exists("half")
    assert any("inference worker" in line for line in killed.left())
    down = subprocess.run([*COMMAND, "down", "--json"], check=True, capture_output=True, timeout=60)
    (ended,) = json.loads(down.stdout)["databases"]
    assert (ended["ended"], ended["addresses"]) == (True, [address])
    assert not list((kept / "exp").glob("*/taskensemble_db.json"))
    eventually(lambda: not killed.left(), timeout=30, what="the end of every process")


TRY = """
import json
from taskensemble.ai import Client
from taskensemble.ai.error import RedisReplyError
import os, socket
client = Client()
client.run_model("double", inputs=["x"], outputs=["y"])
host, port = os.environ["SSDB"].rsplit(":", 1)
refused = {}
for command in ("CONFIG GET maxmemory", "CONFIG SET maxmemory 1", "MODULE LIST", "SHUTDOWN NOSAVE"):
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(command.encode() + b"\\r\\n")
        refused[command] = connection.recv(1000).decode().split()[0]
json.dump({"y": client.get_tensor("y").tolist(), "refused": refused}, open("result.json", "w"))
"""


def test_members_of_a_restricted_database_compute_and_cannot_administer(
    exp: Experiment, tmp_path: Path, archive: bytes
) -> None:
    db = exp.create_database(port=0, restricted=True)
    (tmp_path / "try.py").write_text(TRY)
    program = exp.create_run_settings(exe=sys.executable, exe_args=str(tmp_path / "try.py"))
    model = exp.create_model("member", program)
    model.add_ml_model("double", "TORCH", model=archive, device="CPU")
    exp.start(db, quiet=True)
    client = Client(cluster=False, address=db.get_address()[0])
    client.put_tensor("x", np.array([1.0, 2.0], dtype=np.float32))
    exp.start(model, quiet=True)
    (row,) = exp.results(model)
    assert row["result"]["y"] == [2.0, 4.0]
    assert set(row["result"]["refused"].values()) == {"-NOPERM"}
    db.set_db_conf("maxmemory", "200mb")
    exp.stop(db)
    assert not db.is_active()


def test_a_restriction_that_is_no_yes_or_no_is_refused(exp: Experiment) -> None:
    with pytest.raises(TypeError, match="restricted='yes' is of type str; give True or False"):
        exp.create_database(restricted="yes")
