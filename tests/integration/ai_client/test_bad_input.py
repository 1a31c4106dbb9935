"""The rows of the table of wrong inputs that need a database: methods of the client, and the commands of the wire protocol."""

from __future__ import annotations

import builtins
import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from taskensemble import ai, errors
from tests.ai_database import Database
from tests.unit.bad_input import COMMANDS, SERVED

CLASSES = {"Client methods": ai.Client, "Dataset": ai.Dataset, "LogContext": ai.LogContext}
METHODS = [pytest.param(*row[1:], id=f"{title}-{row[0]}") for title, rows in SERVED.items() for row in rows]
SENT = [pytest.param(row[1], row[3], id=row[1]) for row in COMMANDS["AI commands"]]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    made = Database(supervise=False)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def client(database: Database) -> ai.Client:
    return ai.Client(False, address=database.address)


@pytest.fixture(scope="module")
def connection(database: Database) -> Iterator[Any]:
    host, port = database.address.split(":")
    with redis.Redis(host=host, port=int(port), protocol=2) as opened:
        opened.set("str", "x")
        opened.execute_command("AI.TENSORSET", "t", "FLOAT", 2, "VALUES", 1, 2)
        yield opened


@pytest.mark.parametrize(("code", "error", "words"), METHODS)
def test_a_client_refuses_what_it_cannot_use(
    client: ai.Client, code: str, error: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.py").write_text("def f(x):\n    return x\n")
    public = {name: getattr(ai, name) for name in ai.__all__}
    names: dict[str, Any] = {**public, "client": client, "dataset": ai.Dataset("d"), "np": np}
    kind: Any = getattr(errors, error, None) or getattr(builtins, error, None) or Exception
    with pytest.raises(kind) as caught:
        eval(code, names)
    assert type(caught.value).__name__ == error
    assert words in str(caught.value)


@pytest.mark.parametrize(("sent", "words"), SENT)
def test_a_database_answers_a_wrong_command_with_an_error(connection: Any, sent: str, words: str) -> None:
    with pytest.raises(redis.ResponseError) as caught:
        connection.execute_command(*shlex.split(sent))
    assert words in str(caught.value)
    assert connection.ping()


def test_every_argument_of_the_client_has_a_row() -> None:
    rows = {f"{title}: {row[0]}" for title, rows in SERVED.items() for row in rows}
    for title, kind in CLASSES.items():
        for name, function in inspect.getmembers(kind, inspect.isfunction):
            if name.startswith("_") or not function.__module__.startswith("taskensemble"):
                continue
            for one in list(inspect.signature(function).parameters.values())[1:]:
                if one.kind is not one.VAR_KEYWORD:
                    assert f"{title}: {name}: {one.name}" in rows, "tests/unit/bad_input.py lacks it"


def test_every_command_of_the_module_has_a_row(connection: Any) -> None:
    names = {
        name.decode().upper() for name in connection.execute_command("COMMAND LIST", "FILTERBY", "PATTERN", "ai.*")
    }
    assert sorted(names - {row[0] for row in COMMANDS["AI commands"]}) == []
