"""Broker and record store behind TLS, on Debian's Redis with a certificate authority of the test's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from taskensemble.engine import messages, signing
from taskensemble.engine.store import Store
from taskensemble.errors import ControlPlaneError
from taskensemble.launch.embedded import free_port
from tests.integration.engine import runs
from tests.integration.engine.plane import Plane, until
from tests.integration.engine.servers import Server, running_server
from tests.rabbitmq import PROGRAM, running_rabbit


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certificates(folder: Path) -> None:
    """Makes an authority `ca.crt`, another one `other.crt`, and a certificate of localhost from the first."""
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt",
                "-days", "2", "-subj", f"/CN={name}")  # fmt: skip
    openssl(
        folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=localhost"
    )
    (folder / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(folder, "x509", "-req", "-in", "s.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "s.crt",
            "-days", "2", "-extfile", "ext")  # fmt: skip


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Port of a server that speaks TLS alone; `ca.crt` in the folder is its authority, `other.crt` is not."""
    if shutil.which("redis-server") is None or shutil.which("openssl") is None:
        pytest.skip("not installed: redis-server, openssl; run tests/system/install.sh")
    certificates(tmp_path)
    port = free_port()
    command = ["redis-server", "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--requirepass", "secret"]
    command += ["--tls-cert-file", "s.crt", "--tls-key-file", "s.key", "--tls-ca-cert-file", "ca.crt"]
    command += ["--tls-auth-clients", "no", "--save", ""]
    with (tmp_path / "redis.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def test_runs_work_over_tls_with_an_authority_of_ones_own(tls_port: int, tmp_path: Path) -> None:
    url = f"rediss://:secret@localhost:{tls_port}/0?ssl_ca_certs={tmp_path}/ca.crt"
    until(lambda: answers(url), "the server answers")
    plane = Plane(url, tmp_path)
    try:
        plane.worker("--slots", "2")
        run, members = runs.one_entity(tmp_path, ["/bin/echo"], 300, args=[["x" * 2000]] * 300)
        plane.start(run, members)
        assert plane.finish(run.run_id).completed == 300
    finally:
        plane.close()
    with pytest.raises(ControlPlaneError, match="certificate verify failed"):
        Store.connect(url.replace("ca.crt", "other.crt"), patience=0)


def test_signed_runs_work_over_rabbitmq_with_tls_and_an_unsigned_message_is_refused(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not PROGRAM.exists() or shutil.which("openssl") is None:
        pytest.skip("not installed: rabbitmq-server, openssl; run tests/system/install.sh")
    certificates(tmp_path)
    keys = tmp_path / "keys"
    keys.write_text("k1:" + "5a" * 32 + "\n")
    keys.chmod(0o600)
    # The broker runs as the owner of its files; the key is read by it alone.
    with running_rabbit(authority=tmp_path) as rabbit:
        plane = Plane(rabbit.url, tmp_path, server.url)
        try:
            unsigned, others = runs.one_entity(tmp_path / "unsigned", ["/usr/bin/touch", str(tmp_path / "ran")])
            plane.start(unsigned, others)
            monkeypatch.setenv(signing.VARIABLE, str(keys))
            plane.worker("--slots", "2")
            run, members = runs.one_entity(tmp_path, ["/bin/echo"], 100, args=[["x" * 2000]] * 100)
            plane.start(run, members)
            assert plane.finish(run.run_id).completed == 100
            until(lambda: "not signed" in (tmp_path / "w0.log").read_text(), "the unsigned message is refused")
            assert not (tmp_path / "ran").exists()
            with pytest.raises(OperationalError, match="certificate verify failed"):
                messages.Publisher(rabbit.url.replace("ca.crt", "other.crt")).length(messages.SERVICE_QUEUE)
            monkeypatch.delenv(signing.VARIABLE)
        finally:
            plane.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
