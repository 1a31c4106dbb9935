"""Experiments in folders of their own, ended after the test; drivers in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskensemble import Experiment
from tests.integration.experiment.drivers import Driver


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TASKENSEMBLE_BROKER_URL", raising=False)
    monkeypatch.delenv("TASKENSEMBLE_STORE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def exp(tmp_path: Path) -> Iterator[Experiment]:
    experiment = Experiment("exp", launcher="local", slots=2)
    yield experiment
    experiment.stop_all()
    experiment.close()


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    started: list[Driver] = []

    def start(code: str, **environment: str) -> Driver:
        started.append(Driver(tmp_path, code, **environment))
        return started[-1]

    yield start
    for each in started:
        each.close()
    assert os.getcwd() == str(tmp_path)
