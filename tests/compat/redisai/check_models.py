import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import redisai
from redis.exceptions import ResponseError

MODELS = Path(os.environ["MODELS"])
INPUT = np.arange(12, dtype=np.float32).reshape(4, 3)
EXPECTED = np.repeat((INPUT.sum(1) / 2 + 1)[:, None], 2, axis=1)


@pytest.fixture
def con():
    con = redisai.Client(host=os.environ["DB_HOST"], port=int(os.environ["DB_PORT"]))
    con.flushdb()
    return con


def blob(name):
    path = MODELS / name
    if not path.exists():
        pytest.skip(f"{name}: its library is not installed")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("backend", "name"), [("torch", "linear.pt"), ("onnx", "linear.onnx"), ("tflite", "linear.tflite")]
)
def test_a_model_of_each_backend_is_stored_and_run(con, backend, name):
    model = blob(name)
    assert con.modelstore("m", backend, "CPU", model, tag="v1") == "OK"
    con.tensorset("in", INPUT)
    assert con.modelexecute("m", inputs=["in"], outputs=["out"]) == "OK"
    assert np.allclose(con.tensorget("out"), EXPECTED)
    stored = con.modelget("m")
    assert stored["blob"] == model
    assert (stored["backend"], stored["device"], stored["tag"]) == (backend.upper(), "CPU", "v1")
    assert "blob" not in con.modelget("m", meta_only=True)
    assert con.modeldel("m") == "OK"
    with pytest.raises(ResponseError, match="model key is empty"):
        con.modelget("m")


def test_a_frozen_graph_runs_by_the_names_of_its_nodes(con):
    model = blob("linear.pb")
    first, last = (MODELS / "linear.pb.names").read_text().split()
    assert con.modelstore("m", "TF", "CPU", model, inputs=[first], outputs=[last]) == "OK"
    con.tensorset("in", INPUT)
    con.modelexecute("m", ["in"], ["out"])
    assert np.allclose(con.tensorget("out"), EXPECTED)
    meta = con.modelget("m", meta_only=True)
    assert (meta["inputs"], meta["outputs"]) == ([first], [last])
    with pytest.raises(ValueError, match="inputs and outputs"):
        con.modelstore("m", "TF", "CPU", model)
    with pytest.raises(ResponseError):
        con.modelstore("wrong", "TF", "CPU", model, inputs=["no"], outputs=["such"])


def test_batching_options_are_kept(con):
    con.modelstore("m", "TORCH", "CPU", blob("linear.pt"), batch=8, minbatch=2, minbatchtimeout=20, tag="b")
    meta = con.modelget("m", meta_only=True)
    assert (meta["batchsize"], meta["minbatchsize"], meta["minbatchtimeout"]) == (8, 2, 20)
    con.tensorset("in", INPUT)
    con.modelexecute("m", ["in"], ["out"])
    assert np.allclose(con.tensorget("out"), EXPECTED)


def test_the_older_commands_still_work(con):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert con.modelset("m", "TORCH", "CPU", blob("linear.pt"), tag="old") == "OK"
        con.tensorset("in", INPUT)
        assert con.modelrun("m", ["in"], ["out"]) == "OK"
        assert np.allclose(con.tensorget("out"), EXPECTED)
        assert con.modelscan() == [["m", "old"]]


def test_errors_are_the_originals(con):
    with pytest.raises(ResponseError):
        con.modelstore("m", "TORCH", "CPU", b"no model")
    assert not con.exists("m")
    con.modelstore("m", "TORCH", "CPU", blob("linear.pt"))
    with pytest.raises(ResponseError, match="tensor key is empty"):
        con.modelexecute("m", ["nothing"], ["out"])
    con.tensorset("in", INPUT)
    with pytest.raises(ResponseError, match="Number of keys given as INPUTS here does not match model definition"):
        con.modelexecute("m", ["in", "in"], ["out"])
    with pytest.raises(
        ResponseError, match=r"[Nn]umber of keys given as OUTPUTS here does not match|unexpected number of outputs"
    ):
        con.modelexecute("m", ["in"], ["out", "out2"])
    con.tensorset("wrong", np.zeros((2, 7), np.float32))
    with pytest.raises(ResponseError):
        con.modelexecute("m", ["wrong"], ["out"])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        con.modelexecute("in", ["in"], ["out"])


def test_a_request_may_not_run_inside_a_transaction(con):
    con.modelstore("m", "TORCH", "CPU", blob("linear.pt"))
    con.tensorset("in", INPUT)
    pipe = con.pipeline(transaction=True)
    pipe.execute_command("AI.MODELEXECUTE", "m", "INPUTS", 1, "in", "OUTPUTS", 1, "out")
    with pytest.raises(ResponseError, match="Cannot run RedisAI command within a transaction or a LUA script"):
        pipe.execute()


def test_statistics_are_kept_and_reset(con):
    con.modelstore("m", "TORCH", "CPU", blob("linear.pt"), tag="v2")
    con.tensorset("in", INPUT)
    for _ in range(3):
        con.modelexecute("m", ["in"], ["out"])
    facts = con.infoget("m")
    assert (facts["key"], facts["type"], facts["backend"], facts["device"], facts["tag"]) == (
        "m",
        "MODEL",
        "TORCH",
        "CPU",
        "v2",
    )
    assert (facts["calls"], facts["samples"], facts["errors"]) == (3, 12, 0)
    assert facts["duration"] > 0
    assert con.inforeset("m") == "OK"
    facts = con.infoget("m")
    assert (facts["calls"], facts["samples"], facts["duration"]) == (0, 0, 0)
    with pytest.raises(ResponseError, match="cannot find run info for key"):
        con.infoget("nothing")


def test_configuration_is_read_and_set(con):
    before = int(con.config("MODEL_CHUNK_SIZE"))
    assert before == 511 * 1024 * 1024
    assert con.config("MODEL_CHUNK_SIZE", 1000) == "OK"
    model = blob("linear.pt")
    con.modelstore("m", "TORCH", "CPU", model)
    chunks = con.modelget("m")["blob"]
    assert all(len(chunk) <= 1000 for chunk in chunks)
    assert b"".join(chunks) == model
    assert con.config("MODEL_CHUNK_SIZE", before) == "OK"
    assert con.config("BACKENDSPATH", "/a/path") == "OK"
    assert con.config("BACKENDSPATH") == "/a/path"


def test_a_model_outlives_dump_and_restore(con):
    con.modelstore("m", "TORCH", "CPU", blob("linear.pt"), tag="kept")
    con.tensorset("in", INPUT)
    payload = con.dump("m")
    con.delete("m")
    con.restore("m2", 0, payload)
    con.modelexecute("m2", ["in"], ["out"])
    assert np.allclose(con.tensorget("out"), EXPECTED)
    assert con.modelget("m2", meta_only=True)["tag"] == "kept"
    assert con.type("m2") == b"AI__MODEL"
    assert con.type("in") == b"AI_TENSOR"
