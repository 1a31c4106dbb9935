from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from ai_database import Database

from taskensemble.ai import Client, Dataset
from taskensemble.ai.copying import copy_database
from taskensemble.ai.error import RedisReplyError

pytest.importorskip("torch")

SCRIPT = "def double(x):\n    return x * 2.0\n"
ENTRY = "def total(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0] + tensors[1]\n"


@pytest.fixture
def source(database: Database) -> Client:
    client = Client(False, address=database.address)
    client.flush_db([database.address])
    client.put_tensor("t", np.arange(6.0).reshape(2, 3))
    dataset = Dataset("d")
    dataset.add_tensor("x", np.zeros(2))
    dataset.add_meta_string("units", "K")
    client.put_dataset(dataset)
    client.append_to_list("L", dataset)
    client.set_script("s", SCRIPT)
    database.call("AI.SCRIPTSTORE", "e", "CPU", "TAG", "v1", "ENTRY_POINTS", 1, "total", "SOURCE", ENTRY)
    database.call("SET", "plain", "text")
    database.call("PEXPIRE", "plain", 600_000)
    return client


def test_everything_comes_over_to_a_cluster(source: Client, database: Database, cluster: Database) -> None:
    target = Client(True, address=cluster.address)
    target.flush_db(cluster.addresses)
    copied = copy_database(database.address, cluster.address)
    assert copied == {"AI_TENSOR": 2, "AI_SCRIPT": 2, "hash": 1, "list": 1, "string": 1}
    assert np.array_equal(target.get_tensor("t"), source.get_tensor("t"))
    assert target.get_datasets_from_list("L")[0].get_meta_strings("units") == ["K"]
    assert target.key_exists("s")
    assert target.key_exists("e")


def test_models_run_as_before(source: Client, database: Database) -> None:
    import ai_database
    from torch import nn, zeros

    from taskensemble.ml.torch import trace_model

    blob = trace_model(nn.Linear(3, 2), zeros(1, 3))
    source.set_model("m", blob, "TORCH", tag="kept", batch_size=4, min_batch_size=2, min_batch_timeout=7)
    source.put_tensor("in", np.ones((1, 3), np.float32))
    source.run_model("m", "in", "out")
    source.set_model_chunk_size(1000)
    with ai_database.database() as other:
        done = subprocess.run(
            [sys.executable, "-m", "taskensemble.ai.copying", database.address, other.address],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        source.set_model_chunk_size(511 * 1024 * 1024)
        assert done.returncode == 0, done.stderr
        assert "1 AI__MODEL" in done.stdout
        target = Client(False, address=other.address)
        target.run_model("m", "in", "again")
        assert np.array_equal(target.get_tensor("again"), source.get_tensor("out"))
        assert target.get_model("m") == blob
        assert database.call("AI.MODELGET", "m", "META") == other.call("AI.MODELGET", "m", "META")
        assert database.call("AI.SCRIPTGET", "e", "META", "SOURCE") == other.call("AI.SCRIPTGET", "e", "META", "SOURCE")
        assert 0 < other.call("PTTL", "plain") <= 600_000


def test_a_key_that_is_refused_is_named(source: Client, database: Database) -> None:
    import ai_database

    with ai_database.database(supervise=False) as other, pytest.raises(RedisReplyError, match=r"AI_SCRIPT.*backend"):
        copy_database(database.address, other.address)
