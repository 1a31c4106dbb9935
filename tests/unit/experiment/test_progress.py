"""What a wait shows, from statuses alone."""

from __future__ import annotations

import io
from typing import Any

import pytest

from taskensemble.engine.records import RunStatus, State
from taskensemble.progress import LineProgress, Pace, Quiet, bar, duration, progress, sentence


def status(state: State = State.RUNNING, **counts: Any) -> RunStatus:
    known = {"size": 20, "queued": 0, "running": 0, "completed": 0, "failed": 0, "cancelled": 0}
    return RunStatus(run_id="run-1", experiment="exp", state=state, created=0.0, **(known | counts))


def test_lines_come_for_each_tenth_and_for_the_end_alone() -> None:
    stream = io.StringIO()
    lines = LineProgress(stream)
    for completed in range(20):
        lines.update(status(completed=completed, running=1))
    last = status(State.COMPLETED, completed=20, started=1.0, ended=3.5)
    lines.update(last)
    lines.update(last)
    said = stream.getvalue().splitlines()
    assert len(said) == 11
    assert said[-1] == "run-1: 20/20 ended, completed, took 2.5 s"


def test_a_line_comes_after_the_interval_even_when_nothing_ended() -> None:
    stream = io.StringIO()
    lines = LineProgress(stream, interval=0.0)
    lines.update(status(running=2))
    lines.update(status(running=2))
    assert len(stream.getvalue().splitlines()) == 2


def test_the_bar_has_one_width_whatever_the_states() -> None:
    for counts in ({}, {"completed": 20}, {"completed": 7, "failed": 3, "running": 5}, {"cancelled": 1}, {"size": 0}):
        drawn = bar(status(**counts), 10.0).plain.removeprefix("run-1 ").split(" ")[0]
        assert len(drawn) == 32, counts


def test_rate_and_time_left_are_told() -> None:
    assert (
        sentence(status(completed=10, failed=2, running=4), 2.0)
        == "12/20 ended, 2 failed, 4 running, 2.0/s, 4.0 s left"
    )
    assert "6.0/min" in sentence(status(completed=1), 0.1)


def test_the_rate_is_of_what_ended_lately_and_while_somebody_looked() -> None:
    pace = Pace()
    assert pace.rate(status(completed=8, running=1), 0.0) is None  # a run that is found again
    assert pace.rate(status(completed=10, running=1), 4.0) == 0.5
    for second in range(100):
        rate = pace.rate(status(size=1000, completed=10 + 2 * second, running=1), 40.0 + second)
    assert rate == pytest.approx(2.0)
    slow = Pace()
    for hour in range(5):
        rate = slow.rate(status(completed=hour, running=1), 3600.0 * hour)
    assert rate == pytest.approx(1 / 3600)
    begun = Pace()
    for waited in range(9):
        begun.rate(status(), float(waited))  # for its worker
    assert begun.rate(status(completed=1, running=1), 9.0) == 1.0


def test_the_numbers_stay_on_the_line_of_a_narrow_terminal() -> None:
    for columns in (20, 60, 80, 200):
        line = bar(status(completed=7, failed=3, running=5), 2.0, columns)
        assert "10/20 ended" in line.plain
        assert len(line) < max(
            columns, len("run-1 ") + len(sentence(status(completed=7, failed=3, running=5), 2.0)) + 2
        )


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.44, "0.4 s"), (12.3, "12 s"), (185, "3:05"), (7385, "2:03:05"), (-1, "0.0 s")]
)
def test_durations_are_as_short_as_they_are_clear(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_quiet_shows_nothing_and_a_file_gets_lines() -> None:
    assert type(progress(True)) is Quiet
    assert isinstance(progress(stream=io.StringIO()), LineProgress)
