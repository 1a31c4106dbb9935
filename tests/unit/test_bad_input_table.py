"""Every row of the table of wrong inputs, as a user would give it; nothing is started by any of them."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import taskensemble
from taskensemble import Experiment, errors
from taskensemble.ai import Client
from taskensemble.engine import signing
from taskensemble.entity.policy import Resources
from taskensemble.settings import JsrunSettings
from tests.unit.bad_input import ROWS, SETUP, page
from workers.limits import limits_of

ROOT = Path(__file__).resolve().parents[2]
CASES = [pytest.param(*row[1:], id=f"{title}-{row[0]}") for title, rows in ROWS.items() for row in rows]


class Exited(Exception):
    """A command ended with an error; its message is what it wrote."""


def command(*argv: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKENSEMBLE_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", *argv],
        env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    raise Exited(f"exit {done.returncode}: {done.stdout}{done.stderr}")


@pytest.mark.parametrize(("code", "error", "words"), CASES)
def test_wrong_input_is_refused_in_words_that_name_it(
    code: str, error: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TASKENSEMBLE_")]:
        monkeypatch.delenv(name)
    names: dict[str, Any] = {
        "Experiment": Experiment,
        "JsrunSettings": JsrunSettings,
        "Resources": Resources,
        "Client": Client,
        "signing": signing,
        "limits_of": limits_of,
        "set": monkeypatch.setenv,
        "cli": lambda *argv: command("taskensemble.cli.main", *argv),
        "worker": lambda *argv: command("workers.app", *argv),
    }
    exec(SETUP, names)
    kind: Any = Exited if error.startswith("exit") else getattr(errors, error, None) or getattr(builtins, error)
    with pytest.raises(kind) as caught:
        eval(code, names)
    assert words in str(caught.value)
    if kind is Exited:
        assert str(caught.value).startswith(f"{error}:")
    assert not list(tmp_path.rglob(".taskensemble"))


def test_the_page_of_the_manual_is_the_table() -> None:
    assert (ROOT / "docs" / "bad-input.md").read_text() == page()
    assert Path(taskensemble.__file__).parent.parent == ROOT
