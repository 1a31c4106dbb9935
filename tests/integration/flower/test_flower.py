"""Flower, started by the command, read through its own HTTP API."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskensemble import Experiment
from taskensemble.launch import embedded

COMMAND = [sys.executable, "-m", "taskensemble.cli.main"]


def ask(url: str, credentials: str | None) -> Any:
    request = urllib.request.Request(url)
    if credentials is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(credentials.encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def eventually(read: Callable[[], Any], timeout: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = read()
        except (OSError, urllib.error.URLError):
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKENSEMBLE_BROKER_URL", raising=False)
    subprocess.run([*COMMAND, "up", "--slots", "2"], check=True, stdout=subprocess.DEVNULL)
    yield tmp_path
    subprocess.run([*COMMAND, "down"], check=True, stdout=subprocess.DEVNULL)


def test_flower_shows_members_under_their_names_with_failed_ones_as_failures(kept: Path) -> None:
    port = embedded.free_port()
    flower = subprocess.Popen(
        [*COMMAND, "flower", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert flower.stdout is not None
        line = flower.stdout.readline()
        found = re.search(rf"http://127.0.0.1:{port}  user (\S+)  password (\S+)", line)
        assert found is not None, line
        credentials = f"{found[1]}:{found[2]}"
        url = f"http://127.0.0.1:{port}/api"
        eventually(lambda: ask(f"{url}/workers?refresh=1", credentials))
        exp = Experiment("plate")
        script = 'case "$TASKENSEMBLE_MEMBER" in *_1) echo no such mesh >&2; exit 3;; esac'
        program = exp.create_run_settings(exe="/bin/sh", exe_args=["-c", script])
        run = exp.start(exp.create_ensemble("plate", replicas=3, run_settings=program), quiet=True)

        def ended() -> dict[str, Any] | None:
            tasks = {task["name"]: task for task in ask(f"{url}/tasks", credentials).values()}
            final = [task for task in tasks.values() if task["state"] in ("SUCCESS", "FAILURE")]
            return tasks if len(final) == 5 else None

        tasks = eventually(ended)
        states = {name: task["state"] for name, task in tasks.items()}
        assert {name: states[name] for name in ("plate_0", "plate_1", "plate_2")} == {
            "plate_0": "SUCCESS",
            "plate_1": "FAILURE",
            "plate_2": "SUCCESS",
        }
        assert run.run_id in tasks["plate_0"]["args"]
        assert "'experiment': 'plate'" in tasks["plate_0"]["kwargs"]
        assert tasks["plate_1"]["exception"] == "FAILED: return code 3"
        reason, _, log = tasks["plate_1"]["traceback"].partition("\n\n")
        assert reason.startswith("exit status 3; see /")
        assert log == "no such mesh"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(f"{url}/tasks", None)
        # A page of another site, whose requests carry the password that the browser knows, orders nothing.
        token = base64.b64encode(credentials.encode()).decode()
        foreign = {"Authorization": f"Basic {token}", "Origin": "http://elsewhere.example"}
        order = urllib.request.Request(f"{url}/worker/shutdown/x", data=b"", headers=foreign)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(order, timeout=20)
        for process in (flower.pid, *_children(flower.pid)):
            assert found[2] not in Path(f"/proc/{process}/cmdline").read_text()
        exp.close()
    finally:
        flower.terminate()
        flower.wait(30)
        if flower.stdout is not None:
            flower.stdout.close()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_flower_without_a_control_plane_says_what_to_do(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKENSEMBLE_BROKER")}
    ended = subprocess.run(
        [*COMMAND, "flower"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert "taskensemble up" in ended.stderr
