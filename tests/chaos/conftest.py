"""The control plane of the integration tests of the engine, on a server that may be killed; seeds, and what was measured.

TASKENSEMBLE_CHAOS_ROUNDS says how often each fault is struck; round n draws from the seed n. With TASKENSEMBLE_CHAOS_REPORT the
figures of all rounds are written to that file, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.chaos.journal import Figures, Journal, rounds
from tests.integration.engine.plane import Plane
from tests.integration.engine.servers import Server, running_server

_measured: list[Figures] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dice" in metafunc.fixturenames:
        metafunc.parametrize("dice", range(rounds()), indirect=True, ids=lambda seed: f"seed{seed}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    by_fault: dict[str, list[Figures]] = defaultdict(list)
    for figures in _measured:
        by_fault[figures.fault].append(figures)
    for fault, found in sorted(by_fault.items()):
        terminalreporter.write_line(
            f"| {fault} | {len(found)} | {sum(one.members for one in found)} | {sum(one.lost for one in found)} "
            f"| {sum(one.doubled for one in found)} | {max(one.recovery for one in found):.1f} s |"
        )


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """What this round draws from."""
    return random.Random(request.param)


@pytest.fixture
def tell() -> Callable[[Figures], None]:
    """Keeps what a round has shown, for the summary."""

    def keep(figures: Figures) -> None:
        _measured.append(figures)
        report = os.environ.get("TASKENSEMBLE_CHAOS_REPORT")
        if report:
            with Path(report).open("a") as stream:
                stream.write(json.dumps(asdict(figures)) + "\n")

    return keep


@pytest.fixture
def broker() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def second_broker() -> Iterator[Server]:
    """A server for messages alone."""
    with running_server() as server:
        yield server


@pytest.fixture
def plane(broker: Server, tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(broker.url, tmp_path)
    yield plane
    plane.close()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")
