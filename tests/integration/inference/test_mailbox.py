"""Small runs that a polling worker answers before their command returns, and what becomes of those that it does not."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from tests.integration.inference.conftest import Server

torch = pytest.importorskip("torch")

WITHIN = 100.0


class Affine(torch.nn.Module):  # type: ignore[misc]
    """Doubles two numbers and adds one."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.full((2,), 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor + 1


@pytest.fixture(scope="module")
def server(short_folder: Path) -> Iterator[Server]:
    """A database whose worker polls long enough to be found listening on a busy machine."""
    running = Server(short_folder, poll=100_000)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def model(server: Any) -> None:
    """A small model under the key m, and nothing else."""
    server("FLUSHALL")
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Affine().eval()), buffer)
    server("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", buffer.getvalue())


def posted(server: Any) -> int:
    """How many runs the worker has answered in its mailbox."""
    return sum(worker["mailbox"] for worker in server.workers())


def run(server: Any, value: float) -> float:
    server("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    return float(server.get("y")[1])


def run_in_graph(server: Any, value: float) -> float:
    *done, outputs = server(
        *("AI.DAGEXECUTE", "ROUTING", "m", "|>", "AI.TENSORSET", "a", "FLOAT", 2, "VALUES", value, value),
        *("|>", "AI.MODELEXECUTE", "m", "INPUTS", 1, "a", "OUTPUTS", 1, "b", "|>", "AI.TENSORGET", "b", "VALUES"),
    )
    assert done == [b"OK", b"OK"]
    return float(outputs[1])


def warmed_up(server: Any, run: Callable[[Any, float], float] = run) -> None:
    """Run the model so often that its time is known and, unless the machine is busy, runs go through the mailbox."""
    for value in range(60):
        server.put("x", np.float32([value, value]))
        assert run(server, value) == 2 * value + 1


def test_small_runs_of_one_caller_go_through_the_mailbox_and_are_counted_like_others(server: Any) -> None:
    deadline = time.monotonic() + WITHIN
    runs = 0
    while not posted(server):
        assert time.monotonic() < deadline, "no run goes through the mailbox"
        warmed_up(server)
        runs += 60
    info = server("AI.INFO", "m")
    facts = dict(zip(info[::2], info[1::2], strict=True))
    assert (facts[b"calls"], facts[b"samples"], facts[b"errors"]) == (runs, 2 * runs, 0)


def test_a_graph_with_one_run_answers_and_leaves_no_key_behind_either_way(server: Any) -> None:
    warmed_up(server, run_in_graph)
    assert sorted(server("KEYS", "*")) == [b"m", b"x"]


def test_an_error_is_told_in_words_also_after_runs_through_the_mailbox(server: Any) -> None:
    warmed_up(server)
    server.put("long", np.ones(3, np.float32))
    with pytest.raises(redis.ResponseError, match="size of tensor"):
        server("AI.MODELEXECUTE", "m", "INPUTS", 1, "long", "OUTPUTS", 1, "y")
    warmed_up(server)


def test_a_changed_model_is_the_one_that_answers(server: Any) -> None:
    warmed_up(server)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(2)), buffer)
    server("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", buffer.getvalue())
    for value in (3, 4, 5):
        server.put("x", np.float32([value, value]))
        assert run(server, value) == value


@pytest.mark.parametrize("fate", [signal.SIGCONT, signal.SIGKILL])
def test_a_worker_that_stops_while_it_listens_holds_nobody_up_and_the_run_is_answered(server: Any, fate: int) -> None:
    warmed_up(server)
    (worker,) = server.workers()
    os.kill(worker["pid"], signal.SIGSTOP)
    client = redis.Redis(unix_socket_path=str(server.folder / "s"), socket_timeout=WITHIN)
    server.put("x", np.float32([7, 7]))
    server("DEL", "y")
    words = ("AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y")
    caller = threading.Thread(target=client.execute_command, args=words)
    caller.start()
    try:
        deadline = time.monotonic() + WITHIN
        while server.workers()[0]["state"] != "busy":
            assert time.monotonic() < deadline, "the run was not given to the worker the usual way"
    finally:
        os.kill(worker["pid"], fate)
    caller.join(WITHIN)
    client.close()
    assert float(server.get("y")[1]) == 15
    warmed_up(server)
