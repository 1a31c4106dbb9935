"""Members leave what nobody expects under the names that others read: each is shown, and none keeps the others from it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from taskensemble.launch.embedded import free_port
from tests.integration.monitoring.test_dashboard import fetch
from tests.monitored import COMMAND, PASSWORD, finished_run, serving

PROGRAM = r"""
case $(cat in.txt) in
0) echo '{"y": NaN, "z": [1, -Infinity]}' > result.json ;;
1) { head -c 5000 /dev/zero | tr '\0' '['; } > result.json ;;
2) mkfifo result.json ;;
3) rm sweep_3.err sweep_3.out; mkfifo sweep_3.err sweep_3.out; exit 3 ;;
4) printf '{"y": "half \\ud800"}' > result.json ;;
5) ln -s /dev/zero result.json ;;
esac
"""


def test_each_member_is_shown_whatever_it_has_left(tmp_path: Path) -> None:
    with finished_run(tmp_path, PROGRAM) as run:
        url = f"http://127.0.0.1:{(port := free_port())}"
        with serving(tmp_path, url, "dashboard", "--port", str(port), TASKENSEMBLE_DASHBOARD_PASSWORD=PASSWORD):
            table = json.load(fetch(f"{url}/api/runs/{run}/table"), parse_constant=_refused)
            log = json.load(fetch(f"{url}/api/runs/{run}/log/3?stream=err"))
        assert [row["state"] for row in table] == [*["Completed"] * 3, "Failed", *["Completed"] * 2]
        assert (table[0]["result.y"], table[0]["result.z"]) == (None, [1, None])
        for index, words in ((1, "result.json: "), (2, "no plain file"), (5, "no plain file")):
            assert words in table[index]["result.unreadable"]
        assert table[4]["result.y"] == "half ?"
        assert "no plain file" in log["text"]
        report = subprocess.run(
            [*COMMAND, "report", run, "--output", "report"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert report.returncode == 0, report.stderr
        facts = json.loads((tmp_path / "report" / "facts.json").read_text(), parse_constant=_refused)
        assert len(facts["members"]) == 6
        shown = subprocess.run(
            [*COMMAND, "results", run, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
        )
        assert json.loads(shown.stdout, parse_constant=_refused)[0]["result"] == {"y": None, "z": [1, None]}
        logs = subprocess.run(
            [*COMMAND, "logs", run, "3", "--error"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert "no plain file" in logs.stderr


def _refused(word: str) -> float:
    raise AssertionError(f"{word} is no JSON")
