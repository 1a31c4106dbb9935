"""The dashboard's server and the metrics, read as a browser and Prometheus read them."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskensemble.ai import Client
from taskensemble.launch.embedded import free_port
from tests.monitored import COMMAND, PASSWORD, finished_run, serving


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("monitoring")
    with finished_run(folder) as run_id:
        yield folder, run_id


@pytest.fixture(scope="module")
def dashboard(run: tuple[Path, str]) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    with serving(run[0], url, "dashboard", "--port", str(port), TASKENSEMBLE_DASHBOARD_PASSWORD=PASSWORD):
        yield url


def fetch(url: str, password: str = PASSWORD) -> Any:
    request = urllib.request.Request(url)
    token = base64.b64encode(f"taskensemble:{password}".encode()).decode()
    request.add_header("Authorization", f"Basic {token}")
    return urllib.request.urlopen(request, timeout=20)


def test_nobody_sees_anything_without_the_password(dashboard: str) -> None:
    for path in ("/", "/api/overview", "/api/live", "/static/dashboard.js"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(dashboard + path, password="wrong")


def test_a_browser_is_told_to_load_from_the_dashboard_alone_whatever_the_answer(dashboard: str) -> None:
    answers = [fetch(dashboard + path).headers for path in ("/", "/api/overview", "/static/dashboard.js", "/api/live")]
    for path, password in (("/", "wrong"), ("/api/runs/nothing", PASSWORD), ("/nowhere", PASSWORD)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(dashboard + path, password)
        answers.append(caught.value.headers)
    for headers in answers:
        rules = dict(rule.strip().partition(" ")[::2] for rule in headers["Content-Security-Policy"].split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
    assert answers[1]["Cache-Control"] == answers[3]["Cache-Control"] == "no-store"


def test_a_run_is_shown_with_its_members_parameters_and_results(dashboard: str, run: tuple[Path, str]) -> None:
    overview = json.load(fetch(f"{dashboard}/api/overview"))
    assert [each["run_id"] for each in overview["runs"]] == [run[1]]
    assert overview["workers"][0]["slots"] == 2
    detail = json.load(fetch(f"{dashboard}/api/runs/{run[1]}"))
    assert detail["states"] == "cccfcc"
    assert detail["entities"][0]["failed"] == 1
    table = json.load(fetch(f"{dashboard}/api/runs/{run[1]}/table"))
    assert [(row["params.T"], row.get("result.y")) for row in table if row["state"] == "Completed"] == [
        ("0", 0), ("1", 1), ("2", 4), ("4", 16), ("5", 25)
    ]  # fmt: skip
    assert all(row["seconds"] > 0 and row["node"] for row in table)


def test_the_log_of_a_failed_member_is_shown_with_the_reason(dashboard: str, run: tuple[Path, str]) -> None:
    log = json.load(fetch(f"{dashboard}/api/runs/{run[1]}/log/3?stream=err"))
    assert log["text"] == "bad weather\n"
    assert log["reason"].startswith("exit status 3")
    assert json.load(fetch(f"{dashboard}/api/runs/{run[1]}/log/99"))["text"] == "The run has no member 99."


def test_an_unknown_run_is_a_404_that_says_so(dashboard: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(f"{dashboard}/api/runs/nothing")
    assert caught.value.code == 404
    assert "no run 'nothing'" in json.load(caught.value)["error"]


def test_news_arrive_as_server_sent_events(dashboard: str, run: tuple[Path, str]) -> None:
    with fetch(f"{dashboard}/api/live?run={run[1]}") as stream:
        seen: dict[str, Any] = {}
        name = ""
        while set(seen) < {"overview", "databases", "run"}:
            line = stream.readline().decode().strip()
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                seen[name] = json.loads(line.removeprefix("data:"))
    assert seen["run"]["status"]["completed"] == 5


def test_prometheus_reads_members_workers_and_durations(run: tuple[Path, str]) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}/metrics"
    with serving(run[0], url, "metrics", "--port", str(port)):
        for _ in range(2):  # a second scrape must not count anything again
            text = urllib.request.urlopen(url, timeout=20).read().decode()
            samples = {
                (sample.name, *sorted(sample.labels.values())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
    assert samples["taskensemble_members", "completed", "sweep", run[1]] == 5
    assert samples["taskensemble_members", "failed", "sweep", run[1]] == 1
    assert samples["taskensemble_member_run_seconds_count", "Completed", "sweep"] == 5
    assert samples["taskensemble_member_run_seconds_count", "Failed", "sweep"] == 1
    assert samples["taskensemble_member_wait_seconds_count", "sweep"] == 6
    assert samples["taskensemble_member_dispatch_seconds_count", "sweep"] == 6
    assert [value for key, value in samples.items() if key[0] == "taskensemble_worker_slots"] == [2]


def test_prometheus_reads_how_often_and_how_long_models_run(run: tuple[Path, str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    started = subprocess.run(
        [*COMMAND, "db", "start", "--port", "0", "--json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    try:
        address = json.loads(started.stdout)["addresses"][0]
        client = Client(False, address=address)
        client.set_script("double", "def double(x):\n    return x * 2\n", "CPU")
        client.put_tensor("x", np.ones((4, 3), dtype=np.float32))
        for _ in range(7):
            client.run_script("double", "double", ["x"], ["y"])
        url = f"http://127.0.0.1:{(port := free_port())}/metrics"
        with serving(run[0], url, "metrics", "--port", str(port), "--db", address):
            text = urllib.request.urlopen(url, timeout=20).read().decode()
    finally:
        subprocess.run([*COMMAND, "db", "stop"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    calls = families["taskensemble_inference_calls"].samples[0]
    assert (calls.labels["model"], calls.labels["backend"], calls.labels["database"], calls.value) == (
        "double", "TORCH", address, 7
    )  # fmt: skip
    assert families["taskensemble_inference_workers"].samples[0].value == 1
    latencies = [
        sample
        for sample in families["taskensemble_inference_command_seconds"].samples
        if sample.labels["command"] == "AI.SCRIPTEXECUTE"
    ]
    buckets = [sample.value for sample in latencies if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 7
    assert next(sample.value for sample in latencies if sample.name.endswith("_sum")) > 0
    latency = {s.name.rpartition("_")[2]: s for s in families["taskensemble_inference_latency_seconds"].samples}
    assert (latency["count"].labels["model"], latency["count"].value) == ("double", 7)
    assert latency["sum"].value > 0
    assert families["taskensemble_inference_batches"].samples[0].value == 7
    assert families["taskensemble_inference_waiting"].samples[0].value == 0
