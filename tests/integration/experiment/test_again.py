"""Starts that never could run, and second ones: outputs of earlier runs, and the order of what is resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskensemble import Experiment
from taskensemble.engine.records import State
from taskensemble.errors import InputError, InputTypeError, RunNotFoundError
from taskensemble.settings import RunSettings


@pytest.fixture
def exp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiment]:
    monkeypatch.chdir(tmp_path)
    with Experiment("again", slots=2) as experiment:
        yield experiment


def shell(exp: Experiment, text: str) -> RunSettings:
    return exp.create_run_settings("/bin/sh", ["-c", text])


def test_a_consumer_that_was_given_first_waits_for_its_producer_when_it_is_resumed(exp: Experiment) -> None:
    producer = exp.create_model("producer", shell(exp, "exit 3"))
    consumer = exp.create_model("consumer", shell(exp, "true"), depends_on=producer)
    handle = exp.start(consumer, producer, quiet=True)
    again = exp.resume(handle.run_id, quiet=True)
    assert again.member_states() == [State.CANCELLED, State.FAILED]


def test_outputs_of_earlier_runs_and_attempts_stay_beside_the_latest(exp: Experiment) -> None:
    model = exp.create_model("m", shell(exp, "echo $TASKENSEMBLE_RUN_ID.$TASKENSEMBLE_ATTEMPT; exit 1"), retries=1)
    runs = [exp.start(model, quiet=True).run_id for _ in range(2)]
    outputs = {path.name: path.read_text().strip() for path in Path(model.path).glob("m.out*")}
    assert outputs == {
        "m.out.1": f"{runs[0]}.1",
        "m.out.2": f"{runs[0]}.2",
        "m.out.3": f"{runs[1]}.1",
        "m.out": f"{runs[1]}.2",
    }


@pytest.mark.parametrize(
    ("resources", "together", "message"),
    [
        ({"cpus": 3}, False, "cpus=3"),
        ({"gpus": 64}, False, "gpus=64"),
        ({}, True, "together=True: the 3 members of 'many'"),
    ],
)
def test_what_the_only_worker_can_never_hold_is_refused_before_anything_starts(
    exp: Experiment, resources: dict[str, int], together: bool, message: str
) -> None:
    many = exp.create_ensemble("many", replicas=3, run_settings=shell(exp, "true"), resources=resources)
    with pytest.raises(InputError, match=message):
        exp.start(many, together=together, quiet=True)
    assert not Path(exp.exp_path).exists()


def test_run_settings_of_another_type_are_named(exp: Experiment) -> None:
    with pytest.raises(InputTypeError, match="run_settings='echo'"):
        exp.start(exp.create_model("m", "echo"))  # type: ignore[arg-type]


def test_the_records_of_a_run_expire_so_long_after_its_end_as_was_asked(tmp_path: Path) -> None:
    with Experiment("brief", exp_path=tmp_path, slots=1, keep_records=1.0) as experiment:
        program = experiment.create_run_settings("/bin/true")
        run = experiment.start(experiment.create_model("m", program), quiet=True)
        assert experiment.reconnect(run.run_id).status().completed == 1
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                experiment.reconnect(run.run_id)
            except RunNotFoundError:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the run's records are still there")
