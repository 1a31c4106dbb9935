"""Broker and record store behind TLS, on Debian's Redis with a certificate authority of the test's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from taskensemble.engine.store import Store
from taskensemble.errors import ControlPlaneError
from taskensemble.launch.embedded import free_port
from tests.integration.engine import runs
from tests.integration.engine.plane import Plane, until


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Port of a server that speaks TLS alone; `ca.crt` in the folder is its authority, `other.crt` is not."""
    if shutil.which("redis-server") is None or shutil.which("openssl") is None:
        pytest.skip("not installed: redis-server, openssl; run tests/system/install.sh")
    for name in ("ca", "other"):
        openssl(tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt",
                "-days", "2", "-subj", f"/CN={name}")  # fmt: skip
    openssl(
        tmp_path, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=localhost"
    )
    (tmp_path / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(tmp_path, "x509", "-req", "-in", "s.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "s.crt",
            "-days", "2", "-extfile", "ext")  # fmt: skip
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


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
