"""A RabbitMQ broker for tests (apt: rabbitmq-server), gone with the `with` block."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import kombu

from taskensemble.engine import urls
from taskensemble.launch.embedded import free_port

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


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
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_rabbit(authority: Path | None = None) -> Iterator[Rabbit]:
    """A broker in a folder of its own; nothing of it is left after the block."""
    folder = Path(tempfile.mkdtemp(prefix="te-rabbit-"))
    broker = Rabbit(folder, authority)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
        subprocess.run(["epmd", "-port", str(broker.mapper), "-kill"], check=False, capture_output=True, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)
