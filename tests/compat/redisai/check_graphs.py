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
SCRIPT = """
def double(tensors: List[Tensor], keys: List[str], args: List[str]):
    return tensors[0] * 2
"""


@pytest.fixture
def con():
    con = redisai.Client(host=os.environ["DB_HOST"], port=int(os.environ["DB_PORT"]))
    con.flushdb()
    con.modelstore("m", "TORCH", "CPU", (MODELS / "linear.pt").read_bytes())
    con.scriptstore("s", "CPU", SCRIPT, ["double"])
    return con


def test_a_graph_keeps_its_tensors_to_itself(con):
    dag = con.dag(routing="m")
    dag.tensorset("x", INPUT).scriptexecute("s", "double", inputs=["x"], outputs=["xx"])
    result = dag.modelexecute("m", inputs=["xx"], outputs=["y"]).tensorget("y").execute()
    assert result[:3] == ["OK", "OK", "OK"]
    assert np.allclose(result[3], 2 * EXPECTED - 1)
    assert not con.exists("x", "xx", "y")


def test_tensors_are_loaded_and_persisted(con):
    con.tensorset("in", INPUT)
    dag = con.dag(load="in", persist=["out"])
    assert dag.modelexecute("m", "in", "out").execute() == ["OK"]
    assert np.allclose(con.tensorget("out"), EXPECTED)


def test_a_graph_that_only_reads(con):
    con.tensorset("in", INPUT)
    result = con.dag(load="in", readonly=True).modelexecute("m", "in", "out").tensorget("out").execute()
    assert np.allclose(result[1], EXPECTED)
    assert not con.exists("out")
    with pytest.raises(RuntimeError):
        con.dag(persist="out", readonly=True)


def test_the_older_graph_still_works(con):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dag = con.dag()
        result = dag.tensorset("x", INPUT).modelrun("m", "x", "y").tensorget("y").run()
        assert np.allclose(result[2], EXPECTED)
        assert np.allclose(
            con.dag(readonly=True).tensorset("x", INPUT).modelrun("m", "x", "y").tensorget("y").run()[2], EXPECTED
        )


def test_errors_are_the_originals(con):
    with pytest.raises(ResponseError, match=r"tensor key is empty|INPUT key cannot be found in DAG"):
        con.dag(load="nothing").modelexecute("m", "nothing", "y").execute()
    with pytest.raises(ResponseError, match="INPUT key cannot be found in DAG"):
        con.dag(routing="m").modelexecute("m", "nothing", "y").execute()
    with pytest.raises(ResponseError, match="PERSIST key cannot be found in DAG"):
        con.dag(persist="nothing").tensorset("x", INPUT).execute()
    raw = con.execute_command(
        "AI.DAGEXECUTE", "ROUTING", "m",
        "|>", "AI.TENSORSET", "x", "FLOAT", 1, 7,
        "|>", "AI.MODELEXECUTE", "m", "INPUTS", 1, "x", "OUTPUTS", 1, "y",
        "|>", "AI.TENSORGET", "y", "VALUES",
    )  # fmt: skip
    assert raw[0] == b"OK"
    assert isinstance(raw[1], ResponseError)
    assert raw[2] in (b"NA", "NA")
