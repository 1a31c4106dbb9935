"""Wrong input is an error in the driver that names the argument, the value and the way out, and nothing has been started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskensemble import Experiment
from taskensemble.errors import (
    DatabaseError,
    EntityExistsError,
    InputError,
    InputTypeError,
    ParameterWriterError,
    PreviewFormatError,
    RunNotFoundError,
    TaskensembleError,
    UnsupportedError,
)


@pytest.fixture
def exp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TASKENSEMBLE_BROKER_URL", raising=False)
    return Experiment("exp")


def true(exp: Experiment) -> Any:
    return exp.create_run_settings(exe="/bin/true")


def model(exp: Experiment, name: str = "model", **keywords: Any) -> Any:
    return exp.create_model(name, true(exp), **keywords)


def empty(exp: Experiment) -> Any:
    ensemble = exp.create_ensemble("empty", replicas=1, run_settings=true(exp))
    ensemble.entities = []
    return ensemble


def tagged(exp: Experiment) -> Any:
    Path("in.txt").write_text(";THRMO;\n")
    ensemble = exp.create_ensemble("tagged", params={"THERMO": [1]}, run_settings=true(exp))
    ensemble.attach_generator_files(to_configure="in.txt")
    return ensemble


def with_asset(exp: Experiment, **keywords: Any) -> Any:
    made = model(exp)
    made.add_ml_model("net", **({"backend": "TORCH", "model": b"x"} | keywords))
    return made


def waiting(exp: Experiment) -> Any:
    return model(exp, "after", depends_on=model(exp, "before"))


Attempt = Callable[[Experiment], Any]
CASES: list[tuple[str, Attempt, type[Exception], str]] = [
    ("unknown launcher", lambda exp: Experiment("e", launcher="loacl"), UnsupportedError, "launcher='loacl'.*slurm"),
    ("launcher type", lambda exp: Experiment("e", launcher=3), InputTypeError, "launcher=3"),  # type: ignore[arg-type]
    ("missing path", lambda exp: Experiment("e", exp_path="nowhere"), NotADirectoryError, "exp_path='nowhere'"),
    ("path type", lambda exp: Experiment("e", exp_path=3), InputTypeError, "exp_path=3"),  # type: ignore[arg-type]
    ("name type", lambda exp: Experiment(3), InputTypeError, "name"),  # type: ignore[arg-type]
    ("no slots", lambda exp: Experiment("e", slots=0), InputError, "slots=0"),
    ("slots type", lambda exp: Experiment("e", slots="2"), InputTypeError, "slots='2'"),  # type: ignore[arg-type]
    ("broker", lambda exp: Experiment("e", broker="ftp://x").start(model(exp)), InputError, "broker='ftp://x'"),
    ("program", lambda exp: exp.create_run_settings(exe="no-such-program"), FileNotFoundError, "no-such-program"),
    ("nothing", lambda exp: exp.start(), InputError, "start"),
    ("no entity", lambda exp: exp.start("model"), InputTypeError, "model"),  # type: ignore[arg-type]
    ("equal names", lambda exp: exp.start(model(exp), model(exp)), EntityExistsError, "model"),
    ("empty ensemble", lambda exp: exp.start(empty(exp)), InputError, "empty"),
    ("unknown tag", lambda exp: exp.start(tagged(exp)), ParameterWriterError, r"in\.txt.*THRMO.*THERMO"),
    ("no database", lambda exp: exp.start(with_asset(exp)), DatabaseError, "net.*create_database"),
    ("unknown backend", lambda exp: with_asset(exp, backend="TROCH"), InputError, "TROCH.*TORCH"),
    ("unknown device", lambda exp: with_asset(exp, device="TPU"), InputError, "TPU.*GPU"),
    ("missing dependency", lambda exp: exp.start(waiting(exp)), InputError, "before"),
    (
        "strategy",
        lambda exp: exp.create_ensemble("e", {"A": [1]}, None, true(exp), None, "some"),
        UnsupportedError,
        "some",
    ),
    ("parameter", lambda exp: exp.create_ensemble("e", {"A": [{}]}, run_settings=true(exp)), InputTypeError, "A"),
    (
        "keyword",
        lambda exp: exp.create_ensemble("e", replicas=1, run_settings=true(exp), retires=2),
        InputTypeError,
        "retires",
    ),
    (
        "settings twice",
        lambda exp: exp.create_ensemble(true(exp), run_settings=true(exp)),
        InputTypeError,
        "run_settings",
    ),
    ("missing file", lambda exp: model(exp).attach_generator_files(to_copy="none.txt"), FileNotFoundError, "none.txt"),
    ("database nodes", lambda exp: exp.create_database(db_nodes=2), UnsupportedError, "db_nodes=2"),
    ("port", lambda exp: exp.create_database(port=70000), InputError, "port=70000"),
    ("no batch here", lambda exp: exp.create_batch_settings(nodes=1), TaskensembleError, "local"),
    ("preview level", lambda exp: exp.preview(model(exp), verbosity_level="all"), InputError, "verbosity_level='all'"),
    (
        "preview format",
        lambda exp: exp.preview(model(exp), output_format="xml"),
        PreviewFormatError,
        "output_format='xml'",
    ),
    ("table format", lambda exp: exp.summary(style="fancy!"), InputError, "style='fancy!'"),
    ("interval", lambda exp: exp.poll(interval="10"), InputTypeError, "interval='10'"),  # type: ignore[arg-type]
    ("unknown run", lambda exp: exp.reconnect("exp-1"), RunNotFoundError, "exp-1"),
    ("nothing to resume", lambda exp: exp.resume("exp-1"), RunNotFoundError, "exp-1"),
    ("finished what", lambda exp: exp.finished("model"), InputTypeError, "model"),  # type: ignore[arg-type]
    ("no generator", lambda exp: exp.start_adaptive(model(exp), [{}]), InputTypeError, "generator="),  # type: ignore[arg-type]
    ("empty round", lambda exp: exp.start_adaptive(model(exp), (each for each in [[]])), InputError, "empty round"),
    ("round type", lambda exp: exp.start_adaptive(model(exp), (each for each in [[3]])), InputTypeError, "yielded 3"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("attempt", "error", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wrong_input_is_named_and_starts_nothing(
    exp: Experiment, tmp_path: Path, attempt: Attempt, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        attempt(exp)
    assert not (tmp_path / "exp").exists()


def test_an_entity_without_a_name_is_an_attribute_error(exp: Experiment) -> None:
    with pytest.raises(AttributeError, match="name"):
        exp.create_model(None, true(exp))  # type: ignore[arg-type]
    nameless = model(exp)
    nameless.name = ""
    with pytest.raises(AttributeError, match="name"):
        exp.start(nameless)
