"""Every row of the table of wrong inputs, as a user would give it; nothing is started by any of them."""

from __future__ import annotations

import builtins
import contextlib
import inspect
import io
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import taskensemble
import taskensemble.ml.torch.serialize as ml_torch
from taskensemble import Experiment, RunHandle, configuration, entity, errors, ml, settings
from taskensemble.ai import Client
from taskensemble.cli.main import app
from taskensemble.cli.output import exit_code
from taskensemble.engine import signing
from taskensemble.entity.policy import Resources
from tests.unit.bad_input import EXEMPT, ROWS, SETUP, page
from workers import app as workers_app
from workers.inference import __main__ as inference_app
from workers.limits import limits_of

ROOT = Path(__file__).resolve().parents[2]
CASES = [pytest.param(*row[1:], id=f"{title}-{row[0]}") for title, rows in ROWS.items() for row in rows]
CLASSES: dict[str, type] = {
    **{name: getattr(taskensemble, name) for name in ("Experiment", "Model", "Ensemble", "Database", "RunHandle")},
    **{name: kind for name in settings.__all__ if inspect.isclass(kind := getattr(settings, name))},
}
INTERNAL = {
    "argument_tokens", "check_incoming", "copy_as", "headers", "member_class", "member_params", "member_path", "open", "place",
    "start_round", "wrap",
}  # fmt: skip
"""Methods that the package itself calls, and no driver."""


SAID = {
    "TASKENSEMBLE_RUN_ID", "TASKENSEMBLE_MEMBER", "TASKENSEMBLE_ATTEMPT", "TASKENSEMBLE_ATTEMPT_ID", "TASKENSEMBLE_ALLOCATION",
    "TASKENSEMBLE_JOB_SECONDS",
}  # fmt: skip
"""Variables that the package sets for what it starts, and that no user does."""


class Exited(Exception):
    """A command ended with an error; its message is what it wrote."""


def cli(*argv: str) -> None:
    """The command, in this process."""
    done = CliRunner().invoke(app, list(argv))
    if isinstance(done.exception, errors.TaskensembleError):
        raise Exited(f"exit {exit_code(done.exception)}: {done.exception}")
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    raise Exited(f"exit {done.exit_code}: {' '.join(done.output.split())}")


def program(main: Callable[[list[str]], int], *argv: str) -> None:
    """A worker's program, in this process."""
    said = io.StringIO()
    handlers, level = list(logging.root.handlers), logging.root.level
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            code: Any = main(list(argv))
        except SystemExit as ended:
            code = ended.code
        finally:
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
    raise Exited(f"exit {code}: {said.getvalue()}")


@pytest.mark.usefixtures("mpi_launchers")
@pytest.mark.parametrize(("code", "error", "words"), CASES)
def test_wrong_input_is_refused_in_words_that_name_it(
    code: str, error: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TASKENSEMBLE_")]:
        monkeypatch.delenv(name)
    for name, value in {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    Path("here.txt").write_text('x = "y"\n')
    Path("d.py").touch()
    names: dict[str, Any] = {
        **CLASSES,
        "Experiment": Experiment,
        "Resources": Resources,
        "Client": Client,
        "entity": entity,
        "os": os,
        "ml": ml,
        "ml_torch": ml_torch,
        "handle": RunHandle.__new__(RunHandle),
        "signing": signing,
        "limits_of": limits_of,
        "set": monkeypatch.setenv,
        "cli": cli,
        "worker": lambda *argv: program(workers_app.main, *argv),
        "inference": lambda *argv: program(inference_app.main, *argv),
    }
    exec(SETUP, names)
    kind: Any = Exited if error.startswith("exit") else getattr(errors, error, None) or getattr(builtins, error)
    with pytest.raises(kind) as caught:
        eval(code, names)
    assert words in str(caught.value)
    if kind is Exited:
        assert str(caught.value).startswith(f"{error}:")
    assert not list(tmp_path.rglob(".taskensemble"))


def test_every_argument_of_a_public_signature_has_a_row() -> None:
    rows = _rows()
    for owner, argument in _signatures():
        family = [name for name, kind in CLASSES.items() if issubclass(kind, CLASSES[owner])]
        assert any(f"{name}: {argument}" in rows for name in family), (
            f"{owner}: {argument}: tests/unit/bad_input.py lacks it"
        )


def test_every_argument_and_option_of_the_commands_has_a_row() -> None:
    assert sorted(set(_options()) - _rows()) == []


def test_every_argument_that_may_be_wrong_of_the_helpers_for_training_data_has_a_row() -> None:
    for kind in (ml.DataInfo, ml.TrainingDataUploader, ml.DataDownloader):
        for name in list(inspect.signature(kind).parameters):
            row = f"Training data: {kind.__name__}: {name}"
            # Any value counts as true or false, or is part of a name.
            assert row in _rows() or name in ("dynamic", "shuffle", "verbose", "init_samples", "rank"), row


def test_every_setting_has_a_row() -> None:
    wanted = {f"Environment variables: {setting.variable}" for setting in configuration.SETTINGS.values()}
    assert sorted(wanted - _rows()) == []


def test_every_variable_that_the_code_reads_has_a_row() -> None:
    sources = [path for folder in ("taskensemble", "workers") for path in (ROOT / folder).rglob("*.py")]
    read = {name for path in sources for name in re.findall(r"\bTASKENSEMBLE_[A-Z_]*[A-Z]\b", path.read_text())}
    told = {f"Environment variables: {name}" for name in read - SAID}
    assert sorted(told - _rows()) == []


def test_the_page_of_the_manual_is_the_table() -> None:
    assert (ROOT / "docs" / "bad-input.md").read_text() == page()
    assert Path(taskensemble.__file__).parent.parent == ROOT


def _rows() -> set[str]:
    return {f"{title}: {row[0]}" for title, rows in ROWS.items() for row in rows} | set(EXEMPT)


def _signatures() -> Iterator[tuple[str, str]]:
    """Class and `argument` of each constructor, class and `method: argument` of each method, once for each definition."""
    seen: set[Any] = set()
    for title, kind in CLASSES.items():
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            if name in INTERNAL or (name.startswith("_") and name != "__init__"):
                continue
            if function in seen or not function.__module__.startswith("taskensemble"):
                continue
            seen.add(function)
            owner = function.__qualname__.split(".")[0]
            for one in list(inspect.signature(function).parameters.values())[1:]:
                if one.kind is not one.VAR_KEYWORD and not one.name.startswith("_"):
                    yield (
                        owner if owner in CLASSES else title,
                        one.name if name == "__init__" else f"{name}: {one.name}",
                    )


def _options() -> Iterator[str]:
    """`Command line: command: option` of every command, those of the workers' programs among them."""

    def walk(command: Any, path: list[str]) -> Iterator[str]:
        for name, further in getattr(command, "commands", {}).items():
            yield from walk(further, [*path, name])
        if path and not hasattr(command, "commands"):
            for one in command.params:
                name = (
                    one.name if one.param_type_name == "argument" else next(o for o in one.opts if o.startswith("--"))
                )
                if name != "--help":
                    yield f"Command line: {' '.join(path)}: {name}"

    yield from walk(get_command(app), [])
    for title, main, argv in (
        ("worker", workers_app.main, ["--help"]),
        ("inference-worker", inference_app.main, ["worker", "--help"]),
    ):
        with pytest.raises(Exited) as caught:
            program(main, *argv)
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", str(caught.value))) - {"--help"}:
            yield f"Command line: {title}: {option}"
