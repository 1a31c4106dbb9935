"""RabbitMQ carries the messages while the records stay in Valkey (apt: rabbitmq-server)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskensemble.engine import messages, urls
from taskensemble.engine.records import State
from taskensemble.launch.embedded import free_port
from tests.integration.engine.plane import JOURNAL, Plane, check_journal, journal, until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import Server

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="apt-get install rabbitmq-server")


class Rabbit:
    """A broker on a free port, with everything it writes in one folder.

    Arguments:
        authority: folder with `ca.crt`, `s.crt` and `s.key`: it speaks TLS alone.
    """

    def __init__(self, folder: Path, authority: Path | None = None) -> None:
        self.folder = folder
        self.authority = authority
        self.port, self.distribution, self.mapper = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        if authority is not None:
            self.url = f"amqps://guest:guest@localhost:{self.port}//?ssl_ca_certs={authority}/ca.crt"
            (folder / "rabbit.conf").write_text(
                f"listeners.tcp = none\nlisteners.ssl.default = 127.0.0.1:{self.port}\n"
                f"ssl_options.cacertfile = {authority}/ca.crt\nssl_options.certfile = {authority}/s.crt\n"
                f"ssl_options.keyfile = {authority}/s.key\nssl_options.verify = verify_none\n"
            )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.mapper),
            # Else it refuses to end for as long as it believes that the killed node lives.
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",
            "RABBITMQ_NODENAME": f"te{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        }
        if self.authority is not None:
            del environment["RABBITMQ_NODE_PORT"], environment["RABBITMQ_NODE_IP_ADDRESS"]
            environment["RABBITMQ_CONFIG_FILE"] = str(self.folder / "rabbit")
        with (self.folder / "rabbit.log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM], env=environment, stdout=log, stderr=log, start_new_session=True)
        import kombu

        deadline = time.monotonic() + 90
        while True:
            try:
                with kombu.Connection(
                    urls.celery_url(self.url), ssl=urls.amqp_tls(self.url) or False, connect_timeout=2
                ) as connection:
                    connection.connect()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError((self.folder / "rabbit.log").read_text()[-3000:]) from None
                time.sleep(0.2)

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def rabbit() -> Iterator[Rabbit]:
    folder = Path(tempfile.mkdtemp(prefix="te-rabbit-"))
    broker = Rabbit(folder)
    broker.start()
    yield broker
    broker.kill()
    subprocess.run(["epmd", "-port", str(broker.mapper), "-kill"], check=True, capture_output=True, timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def plane(rabbit: Rabbit, tmp_path: Path) -> Iterator[Plane]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    server.start()
    plane = Plane(rabbit.url, tmp_path, server.url)
    yield plane
    plane.close()
    server.stop()


def test_members_run_and_are_counted_in(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    program = "import sys; sys.exit(sys.argv[1] == '7')"
    run, members = one_entity(
        tmp_path, [sys.executable, "-c", program], 20, args=[[str(i)] for i in range(20)], policy={"retries": 1}
    )
    status = plane.finish(plane.start(run, members))
    assert (status.state, status.completed, status.failed) == (State.FAILED, 19, 1)
    assert plane.store.attempts(run.run_id)[7].attempt == 2
    until(lambda: not plane.store.active_runs(), "the run's queues are gone")
    run, members = one_entity(tmp_path / "quick", ["/bin/true"], 300)
    assert plane.finish(plane.start(run, members)).completed == 300


def test_a_worker_whose_slots_are_taken_leaves_messages_to_others(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/sleep", "8"], 2)
    plane.start(run, members)
    until(lambda: plane.store.status(run.run_id).running == 1, "one runs")
    plane.worker("--slots", "1")
    until(lambda: plane.store.status(run.run_id).running == 2, "the other runs on the other worker", 6)
    assert plane.finish(run.run_id).completed == 2


def test_stop_deletes_what_waits(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/sleep", "60"], 200)
    plane.start(run, members)
    until(lambda: plane.store.status(run.run_id).running == 1, "one runs")
    plane.store.cancel(run.run_id)
    messages.delete_queues(plane.broker_url, run)
    status = plane.finish(run.run_id, 10)
    assert (status.state, status.cancelled) == (State.CANCELLED, 200)
    until(lambda: not plane.store.active_runs(), "the run's queues are gone")


def test_a_restarted_broker_loses_and_repeats_nothing(plane: Plane, rabbit: Rabbit, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    path = tmp_path / "journal"
    run, members = one_entity(tmp_path, [sys.executable, "-c", JOURNAL, str(path), "1.0"], 6)
    plane.start(run, members)
    until(lambda: len(journal(path)) >= 2, "members run")
    rabbit.kill()
    # Without its broker the worker goes on with what runs, and the record hears of it.
    until(lambda: plane.store.status(run.run_id).completed == 2, "running members end")
    rabbit.start()
    assert plane.finish(run.run_id, 90).completed == 6
    check_journal(path, 6)
