"""Experiments on a broker that is given: nothing embedded is started, and runs go on without their driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskensemble import Experiment
from taskensemble.errors import ControlPlaneError
from taskensemble.launch import embedded
from tests.integration.experiment.drivers import Driver, eventually


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """A server with a worker, as an administrator would run them."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = embedded.start(folder)
    worker = subprocess.Popen(
        [sys.executable, "-m", "taskensemble.cli.main", "worker", "--slots", "2"],
        env={**os.environ, "TASKENSEMBLE_BROKER_URL": server.url},
        stderr=subprocess.DEVNULL,
    )
    yield server.url
    worker.terminate()
    worker.wait(60)
    embedded.stop(server)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_given_broker_is_used_and_nothing_is_started(broker: str, scheme: str) -> None:
    exp = Experiment("given", broker=broker.replace("redis", scheme, 1))
    program = exp.create_run_settings(exe="/bin/sh", exe_args=["-c", "env"])
    run = exp.start(exp.create_ensemble("ens", replicas=2, run_settings=program), quiet=True)
    assert run.status().completed == 2
    assert not (Path(exp.exp_path) / embedded.FOLDER).exists()
    password = broker.partition(":")[2].partition("@")[0].lstrip("/:")
    for output in Path(exp.exp_path).glob("ens/*/*.out"):
        assert password not in output.read_text()
    exp.close()


def test_a_run_on_a_given_broker_goes_on_after_its_driver(
    broker: str, driver: Callable[..., Driver], tmp_path: Path
) -> None:
    ended = driver(
        """
        from taskensemble import Experiment
        exp = Experiment("given")
        program = exp.create_run_settings(exe="/bin/sh", exe_args=["-c", "while ! test -e ../../../go; do sleep 0.05; done"])
        print(exp.start(exp.create_ensemble("ens", replicas=2, run_settings=program), block=False).run_id)
        """,
        TASKENSEMBLE_BROKER_URL=broker,
    )
    assert ended.wait() == 0
    run_id = ended.output.strip().splitlines()[-1]
    with Experiment("given", broker=broker) as exp:
        handle = exp.reconnect(run_id)
        eventually(lambda: handle.status().running == 2)
        (tmp_path / "go").touch()
        assert handle.wait(60).completed == 2


def test_a_broker_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    exp = Experiment("given", broker=f"redis://:secret@127.0.0.1:{embedded.free_port()}/0")
    with pytest.raises(ControlPlaneError, match=r"127\.0\.0\.1") as caught:
        exp.start(exp.create_model("m", exp.create_run_settings(exe="/bin/true")), quiet=True)
    assert "secret" not in str(caught.value)
