"""Each file of checks of each official client, against our database."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import ai_database
import pytest
from ai_database import Database

HERE = Path(__file__).parent


def files(name: str) -> list[str]:
    return sorted(path.name for path in (HERE / name).glob("check_*.py"))


@pytest.mark.parametrize("file", files("redisai"))
def test_redisai_client_works(file: str, redisai, database: Database, models: Path) -> None:  # type: ignore[no-untyped-def]
    database.call("FLUSHALL")
    host, port = database.address.split(":")
    redisai.check(file, {"DB_HOST": host, "DB_PORT": port, "MODELS": str(models)})


def test_redisai_client_works_on_a_cluster(redisai, cluster: Database, models: Path) -> None:  # type: ignore[no-untyped-def]
    flush(cluster)
    redisai.check("cluster.py", {"SERVERS": " ".join(cluster.addresses), "MODELS": str(models)})


@pytest.mark.parametrize("kind", ["tcp", "unix", "cluster"])
@pytest.mark.parametrize("file", files("smartredis"))
def test_smartredis_client_works(
    file: str, kind: str, smartredis, models: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    database: Database = request.getfixturevalue("cluster" if kind == "cluster" else "database")
    flush(database)
    environment = {
        "SSDB": f"unix://{database.socket}" if kind == "unix" else ",".join(database.addresses),
        "SR_DB_TYPE": "Clustered" if kind == "cluster" else "Standalone",
        "SR_LOG_FILE": str(tmp_path / "smartredis.log"),
        "SR_LOG_LEVEL": "QUIET",
        "MODELS": str(models),
        "SERVERS": " ".join([f"unix://{database.socket}"] if kind == "unix" else database.addresses),
    }
    smartredis.check(file, environment)


def flush(database: Database) -> None:
    from taskensemble.ai import Client

    client = Client(len(database.addresses) > 1, address=database.address)
    client.flush_db(database.addresses)
    client.close()


def test_smartredis_stores_and_runs_on_several_gpus(smartredis, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Toy workers stand for the GPUs: what is looked at is what the client sends, and where it looks for it."""
    toy = HERE.parent / "integration" / "ai" / "toy_worker.py"
    with ai_database.database(supervise=False) as running:
        gpus = [
            subprocess.Popen([sys.executable, str(toy), "worker", f"unix://{running.socket}", "TORCH", f"GPU:{index}"])
            for index in range(2)
        ]
        try:
            deadline = time.monotonic() + 60
            while len(running.call("AI._WORKER", "LIST")) < len(gpus):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            smartredis.check(
                "multigpu.py",
                {"SSDB": running.address, "SR_DB_TYPE": "Standalone", "SR_LOG_FILE": str(tmp_path / "log")},
            )
        finally:
            for gpu in gpus:
                gpu.terminate()
                gpu.wait(30)
