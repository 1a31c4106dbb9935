import os
from pathlib import Path

import numpy as np
import pytest
from smartredis import Client
from smartredis.error import RedisReplyError

MODELS = Path(os.environ["MODELS"])
INPUT = np.arange(12, dtype=np.float32).reshape(4, 3)
EXPECTED = np.repeat((INPUT.sum(1) / 2 + 1)[:, None], 2, axis=1)
SCRIPT = """
def total(a, b):
    return a + b

def halves(x):
    return x / 2, x / 2
"""


def doubled(x):
    return x * 2.0


@pytest.fixture
def client():
    return Client()


def path(name):
    if not (MODELS / name).exists():
        pytest.skip(f"{name}: its library is not installed")
    return str(MODELS / name)


@pytest.mark.parametrize(
    ("backend", "name"), [("TORCH", "linear.pt"), ("ONNX", "linear.onnx"), ("TFLITE", "linear.tflite")]
)
def test_a_model_of_each_backend_is_stored_and_run(client, backend, name):
    client.set_model_from_file("m", path(name), backend, device="CPU")
    for i in range(4):
        client.put_tensor(f"in{i}", INPUT)
        client.run_model("m", inputs=[f"in{i}"], outputs=[f"out{i}"])
        assert np.allclose(client.get_tensor(f"out{i}"), EXPECTED)
    assert client.get_model("m") == Path(path(name)).read_bytes()
    client.delete_model("m")
    with pytest.raises(RedisReplyError):
        client.run_model("m", ["in0"], ["out"])


def test_a_frozen_graph_runs_by_the_names_of_its_nodes(client):
    blob = Path(path("linear.pb")).read_bytes()
    first, last = (MODELS / "linear.pb.names").read_text().split()
    client.set_model("m", blob, "TF", device="CPU", inputs=[first], outputs=[last], tag="tf")
    client.put_tensor("in", INPUT)
    client.run_model("m", "in", "out")
    assert np.allclose(client.get_tensor("out"), EXPECTED)


def test_batching_options_are_taken(client):
    blob = Path(path("linear.pt")).read_bytes()
    client.set_model("m", blob, "TORCH", "CPU", 8, 2, 5, "batched")
    client.put_tensor("in", INPUT)
    client.run_model("m", ["in"], ["out"])
    assert np.allclose(client.get_tensor("out"), EXPECTED)


def test_scripts_and_functions_run(client, tmp_path):
    client.set_script("s", SCRIPT, device="CPU")
    assert client.get_script("s") == SCRIPT
    client.put_tensor("a", np.ones(3))
    client.run_script("s", "total", ["a", "a"], ["b"])
    client.run_script("s", "halves", "b", ["c", "d"])
    assert client.get_tensor("d").tolist() == [1.0] * 3
    client.set_function("f", doubled)
    client.run_script("f", "doubled", ["a"], ["e"])
    assert client.get_tensor("e").tolist() == [2.0] * 3
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    client.set_script_from_file("g", str(file))
    client.run_script("g", "total", ["a", "e"], ["h"])
    assert client.get_tensor("h").tolist() == [3.0] * 3
    client.delete_script("s")
    with pytest.raises(RedisReplyError):
        client.get_script("s")


def test_errors_are_errors(client):
    with pytest.raises(RedisReplyError):
        client.set_model("bad", b"no model", "TORCH")
    client.set_model_from_file("m", path("linear.pt"), "TORCH")
    with pytest.raises(RedisReplyError):
        client.run_model("m", ["missing"], ["out"])
    client.put_tensor("wrong", np.zeros((2, 7), np.float32))
    with pytest.raises(RedisReplyError):
        client.run_model("m", ["wrong"], ["out"])
    with pytest.raises(RedisReplyError):
        client.set_script("bad", "this is no script")


def test_model_existence_is_seen(client):
    if os.environ["SR_DB_TYPE"] == "Clustered":
        pytest.skip(
            "on a cluster the client asks for the first shard's copy, which it just stored: covered by run_model"
        )
    client.set_model_from_file("m", path("linear.pt"), "TORCH")
    assert client.model_exists("m")
    assert client.poll_model("m", 1, 2)
    client.delete_model("m")
    assert not client.model_exists("m")
