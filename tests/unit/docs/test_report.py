"""The report of a run, from facts to page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from taskensemble.engine.records import RunStatus, State
from taskensemble.report.facts import Facts, left_out
from taskensemble.report.page import render
from taskensemble.report.pictures import busy, draw, lanes, mean_busy


def row(index: int, started: float | None, ended: float | None, state: State = State.COMPLETED) -> dict[str, Any]:
    return {
        "name": f"plate_{index}",
        "state": str(state),
        "reason": "",
        "params": {"THERMO": str(80 + 10 * (index % 4)), "MATERIAL": "iron" if index % 2 else "brass"},
        "result": {"error": 0.1 * index, "note": "text"},
        "started": started,
        "ended": ended,
        "seconds": None if started is None or ended is None else ended - started,
        "node": "n1",
        "attempt": 1,
        "slots": [index % 2],
    }


@pytest.fixture
def facts() -> Facts:
    members = [row(index, 100.0 + index // 2, 100.9 + index // 2) for index in range(12)]
    members[3] |= {"state": "Failed", "reason": "exit code 1; see /x/plate_3.err"}
    members.append(row(12, None, None, State.CANCELLED))
    status = RunStatus(
        run_id="plate-1", experiment="plate", state=State.COMPLETED, size=13,
        queued=0, running=0, completed=11, failed=1, cancelled=1,
        created=99.0, started=100.0, ended=106.0,
    )  # fmt: skip
    failure = {
        "name": "plate_3",
        "returncode": 1,
        "reason": "exit code 1",
        "attempt": 1,
        "log": "/x/plate_3.err",
        "tail": "<b>boom</b>",
    }
    template = {
        "command": ["python", "a file.py"],
        "environment": {"SSDB": "x"},
        "resources": {},
        "policy": {"retries": 2},
        "databases": [],
        "assets": [],
    }
    return Facts(status, "/x", "host:1", {"python": "3.11"}, "abc+", None, members, [failure], [template], [])


def test_members_that_ran_at_the_same_time_are_on_different_lines() -> None:
    ran = [row(0, 0.0, 2.0), row(1, 0.5, 1.0), row(2, 1.5, 3.0), row(3, 2.5, None)]
    assert lanes(ran) == [("n1", 0), ("n1", 1), ("n1", 1), ("n1", 0)]
    assert [count for _, count in busy(ran)] == [1, 2, 1, 2, 1, 2, 1]


def test_the_page_holds_everything_and_loads_nothing(facts: Facts) -> None:
    pytest.importorskip("matplotlib")
    pictures = draw(facts)
    assert set(pictures) == {"timeline", "slots", "durations", "results"}
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    page = render(facts, pictures)
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<script" not in page
    assert "&lt;b&gt;boom&lt;/b&gt;" in page
    assert "python &#x27;a file.py&#x27;" in page
    assert "abc+" in page
    assert "2 at most, 1.83 on average" in page
    assert "0.9 s to 0.9 s" in page
    assert '<td>exit code 1</td><td class="number">1</td>' in page


def test_a_crowded_run_shows_the_mean_of_what_a_picture_cannot_tell_apart() -> None:
    ran = [row(index, index * 0.01, index * 0.01 + 0.005) for index in range(1000)]
    begins, means = mean_busy(ran, 9.995, 100)
    assert len(begins) == len(means) == 101
    assert begins[1] == pytest.approx(0.09995)
    assert means[:100] == pytest.approx([0.5] * 100, abs=0.06)


def test_a_run_without_a_started_member_has_a_page_without_pictures(facts: Facts) -> None:
    pytest.importorskip("matplotlib")
    nothing = Facts(facts.status, "/x", "", {}, "", None, [facts.members[-1]], [], [], [])
    assert draw(nothing) == {}
    assert "plate_12" in render(nothing, {})


def test_the_facts_are_json(facts: Facts) -> None:
    plain = json.loads(json.dumps(facts.plain()))
    assert plain["status"]["run_id"] == "plate-1"
    assert len(plain["members"]) == 13


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("AWS_SECRET_KEY", True),
        ("API_TOKEN", True),
        ("DB_PASSWORD", True),
        ("SSKEYOUT", False),
        ("OMP_NUM_THREADS", False),
    ],
)
def test_values_of_variables_that_look_secret_are_left_out(name: str, secret: bool) -> None:
    assert left_out(name) is secret
