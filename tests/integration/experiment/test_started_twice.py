"""What runs is not started again before it has ended: entities, members of ensembles, and what another driver started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskensemble import Experiment, Status
from taskensemble.adaptive import RoundGenerator
from taskensemble.entity import Ensemble, Model
from taskensemble.errors import EntityExistsError, InputError


@pytest.fixture
def exp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Experiment]:
    monkeypatch.chdir(tmp_path)
    with Experiment("twice", slots=2) as experiment:
        yield experiment


def sleeping(exp: Experiment, name: str = "x") -> Ensemble:
    program = exp.create_run_settings("/bin/sleep", "600")
    return exp.create_ensemble(name, replicas=2, run_settings=program, grace=1)


def model(exp: Experiment, name: str = "m", program: str = "/bin/sleep") -> Model:
    return exp.create_model(name, exp.create_run_settings(program, "600"), grace=1)


def test_an_entity_that_runs_is_not_started_again(exp: Experiment) -> None:
    running = model(exp)
    handle = exp.start(running, block=False)
    with pytest.raises(EntityExistsError, match=rf"'m' has not ended in the run {handle.run_id}: stop it there"):
        exp.start(running)
    with pytest.raises(EntityExistsError, match="'m' has not ended"):
        exp.start(model(exp))
    exp.stop(running)
    assert exp.start(model(exp, program="/bin/echo"), quiet=True).status().completed == 1


def test_a_member_is_not_started_while_it_runs_in_its_ensemble(exp: Experiment) -> None:
    ensemble = sleeping(exp)
    handle = exp.start(ensemble, block=False)
    with pytest.raises(EntityExistsError, match=rf"'x_0' has not ended in the run {handle.run_id} of 'x'"):
        exp.start(ensemble["x_0"])
    both = exp.create_ensemble("both", batch_settings=None, replicas=1, run_settings=ensemble[0].run_settings)
    both.entities = [ensemble[1]]
    with pytest.raises(EntityExistsError, match="'x_1' has not ended"):
        exp.start(both)
    # One that was stopped alone may go on alone.
    exp.stop(ensemble[0])
    alone = exp.start(ensemble[0], block=False)
    with pytest.raises(EntityExistsError, match=rf"'x_0' has not ended in the run {alone.run_id}:"):
        exp.start(ensemble[0])
    exp.stop(ensemble)
    with pytest.raises(EntityExistsError, match=rf"'x_0' has not ended in the run {alone.run_id}:"):
        exp.start(sleeping(exp))
    alone.stop()
    assert exp.get_status(ensemble[0]) == [Status.CANCELLED]


def test_what_another_driver_started_is_known_once_it_is_reconnected(exp: Experiment) -> None:
    handle = exp.start(sleeping(exp), block=False)
    with Experiment("twice") as later:
        later.reconnect(handle.run_id)
        for entity in (sleeping(later), sleeping(later)["x_1"]):
            with pytest.raises(EntityExistsError, match=f"has not ended in the run {handle.run_id}"):
                later.start(entity)
    handle.stop()


def test_a_run_is_not_resumed_while_what_it_left_runs_again(exp: Experiment) -> None:
    first = exp.start(model(exp, program="/bin/false"), quiet=True)
    exp.start(model(exp), block=False)
    with pytest.raises(EntityExistsError, match="'m' has not ended"):
        exp.resume(first.run_id)


def test_an_adaptive_ensemble_is_taken_up_with_its_own_model_and_generator(exp: Experiment) -> None:
    def rounds(count: int) -> RoundGenerator:
        for number in range(count):
            yield [{"x": number}]

    echo = model(exp, "adapt", "/bin/echo")
    begun = exp.start_adaptive(echo, rounds(2), quiet=True)
    with pytest.raises(InputError, match="model: give it beside the generator"):
        exp.reconnect(begun.run_id, generator=rounds(2))  # type: ignore[call-overload]
    with pytest.raises(InputError, match="model: 'other' is not 'adapt'"):
        exp.reconnect(begun.run_id, generator=rounds(2), model=model(exp, "other"))
    with pytest.raises(InputError, match="generator: it ends after 1 of the 2 rounds"):
        exp.reconnect(begun.run_id, generator=rounds(1), model=echo)
    assert len(exp.reconnect(begun.run_id, generator=rounds(2), model=echo).results()) == 2
