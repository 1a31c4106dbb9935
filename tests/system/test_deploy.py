"""deploy/ as the tools read it that it is for, and what of it can run on one machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from taskensemble.launch.embedded import free_port
from tests.monitored import finished_run, serving
from tests.system.conftest import REPOSITORY
from tests.system.slurm_cluster import SlurmCluster, wait_until
from tests.unit.deploy.test_deploy import queries

DEPLOY = REPOSITORY / "deploy"


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: run tests/system/install.sh"
    return found


def done(*command: str | Path, cwd: Path = DEPLOY, **environment: str) -> str:
    ended = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment}
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def test_compose_reads_its_file_and_asks_for_the_password() -> None:
    compose = tool("docker-compose")
    told = done(compose, "config", "--services", cwd=DEPLOY / "compose", TASKENSEMBLE_PASSWORD="a")
    assert set(told.split()) == {"control", "database", "worker", "flower", "metrics", "prometheus", "grafana"}
    without = subprocess.run(
        [compose, "config"], cwd=DEPLOY / "compose", capture_output=True, text=True, check=False, timeout=120
    )
    assert without.returncode != 0
    assert "TASKENSEMBLE_PASSWORD" in without.stderr


@pytest.mark.parametrize("overlay", ["base", "overlays/gpu", "overlays/keda"])
def test_kustomize_joins_the_manifests(overlay: str) -> None:
    joined = done(tool("kubectl"), "kustomize", DEPLOY / "kubernetes" / overlay)
    assert "name: worker" in joined
    assert ("ScaledObject" in joined) == (overlay == "overlays/keda")


def test_prometheus_reads_its_configuration_and_the_alerts_fire_when_they_should() -> None:
    for arguments in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")):
        done(tool("promtool"), *arguments, cwd=DEPLOY / "prometheus")


def test_a_real_prometheus_scrapes_and_answers_every_query_of_the_dashboard(tmp_path: Path) -> None:
    prometheus = tool("prometheus")
    metrics, port = free_port(), free_port()
    configuration = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    configuration = configuration.replace("metrics:9464", f"127.0.0.1:{metrics}").replace(
        "interval: 10s", "interval: 1s"
    )
    (tmp_path / "prometheus.yml").write_text(configuration)
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", tmp_path)
    url = f"http://127.0.0.1:{port}"
    with (
        finished_run(tmp_path),
        serving(tmp_path, f"http://127.0.0.1:{metrics}/metrics", "metrics", "--port", str(metrics)),
    ):
        server = subprocess.Popen(
            [
                prometheus,
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(tmp_path / "prometheus.log").open("w"),
        )
        try:

            def members() -> bool:
                try:
                    return bool(ask(url, 'taskensemble_members{state="completed"} == 5'))
                except OSError:
                    return False

            wait_until(members, 60, "Prometheus has scraped the members")
            for title, query in queries():
                plain = query.replace("$__rate_interval", "1m").replace("$experiment", ".*")
                ask(url, plain, title)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def ask(url: str, query: str, title: str = "") -> list[Any]:
    """What Prometheus answers."""
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=20) as reply:
        told = json.load(reply)
    assert told["status"] == "success", f"{title}: {told}"
    result: list[Any] = told["data"]["result"]
    return result


@pytest.mark.parametrize("script", sorted((DEPLOY / "slurm").iterdir()), ids=lambda path: path.name)
def test_slurm_would_take_the_job_scripts(slurm: SlurmCluster, script: Path) -> None:
    slurm.run("sbatch", "--test-only", str(script))


def test_members_run_on_the_control_plane_and_workers_of_a_job(slurm: SlurmCluster, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "taskensemble").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m taskensemble.cli.main "$@"\n')
    (bin_ / "taskensemble").chmod(0o755)
    environment = {
        **slurm.environment,
        "PATH": f"{bin_}:{slurm.environment['PATH']}",
        "TASKENSEMBLE_ADDRESS": "127.0.0.1",
    }
    submitted = subprocess.run(
        ["sbatch", "--parsable", DEPLOY / "slurm" / "control.sbatch"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    job = submitted.stdout.strip().split(";")[0]
    log = folder / f"taskensemble-{job}.log"
    record = folder / ".taskensemble" / "control.json"
    wait_until(lambda: record.exists() and "Control plane" in log.read_text(), 60, "the job's control plane is up")
    (folder / "driver.py").write_text(
        "from taskensemble import Experiment\n"
        "exp = Experiment('inside')\n"
        "program = exp.create_run_settings('/bin/sh', ['-c', 'echo $SLURMD_NODENAME; sleep 1'])\n"
        "exp.start(exp.create_ensemble('inside', replicas=12, run_settings=program), quiet=True)\n"
        "print(sorted({row['state'] for row in exp.results()}))\n"
    )
    driver = subprocess.run(
        [sys.executable, "driver.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "['Completed']" in driver.stdout, driver.stdout + driver.stderr + log.read_text()
    nodes = {path.read_text().strip() for path in folder.rglob("inside_*.out")}
    assert nodes == {"n1", "n2"}
    slurm.run("scancel", "--signal=TERM", "--batch", job)
    deadline = time.monotonic() + 60
    while job in slurm.jobs():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    assert "has ended" in log.read_text()
