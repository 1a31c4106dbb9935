"""Two experiments of one process in one folder share its control plane; what each leaves to the other stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble import Experiment, Model, Status
from taskensemble.errors import RunNotFoundError


def model(exp: Experiment, name: str, text: str = "true") -> Model:
    return exp.create_model(name, exp.create_run_settings("/bin/sh", ["-c", text]))


def test_two_experiments_of_one_folder_run_side_by_side_and_end_one_by_one(tmp_path: Path) -> None:
    first, second = (Experiment(name, tmp_path, slots=2) for name in ("first", "second"))
    go = tmp_path / "go"
    with first:
        waiting = first.start(model(first, "w", f"until test -e {go}; do sleep 0.05; done"), block=False)
        with second:
            done = second.start(model(second, "d"), quiet=True)
            assert done.status().state is Status.COMPLETED
        # The second has ended; what the first runs goes on.
        assert waiting.status().state is Status.RUNNING
        go.touch()
        assert waiting.wait(60).state is Status.COMPLETED
        # Each finds the other's runs, and one that was closed starts again.
        assert second.reconnect(waiting.run_id).status().state is Status.COMPLETED
        assert second.start(model(second, "again"), quiet=True).status().state is Status.COMPLETED
        second.close()
    with Experiment("third", tmp_path) as third:
        assert third.reconnect(done.run_id).status().completed == 1


def test_poll_of_one_model_waits_for_it_alone(tmp_path: Path) -> None:
    with Experiment("poll", tmp_path, slots=2) as exp:
        go = tmp_path / "go"
        long = model(exp, "long", f"until test -e {go}; do sleep 0.05; done")
        short = model(exp, "short", "sleep 0.2")
        handle = exp.start(long, block=False)
        exp.start(short, block=False)
        exp.poll(short, verbose=False)
        assert exp.finished(short)
        assert not handle.finished()
        with pytest.raises(RunNotFoundError, match="'never'"):
            exp.poll(model(exp, "never"))
        go.touch()
        exp.poll(0.1, verbose=False)
        assert handle.finished()
