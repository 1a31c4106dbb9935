import os

import numpy as np
import pytest
import redisai
from redis.exceptions import ResponseError


@pytest.fixture
def con():
    con = redisai.Client(host=os.environ["DB_HOST"], port=int(os.environ["DB_PORT"]))
    con.flushdb()
    return con


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool"])
def test_numpy_arrays_come_back(con, dtype):
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype=dtype)
    assert con.tensorset("x", array) == "OK"
    again = con.tensorget("x")
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)
    mutable = con.tensorget("x", as_numpy_mutable=True)
    mutable[0] = 1
    meta = con.tensorget("x", meta_only=True)
    assert meta["shape"] == [2, 3]


def test_strings_come_back(con):
    array = np.array([["a", "bc"], ["äö", ""]])
    con.tensorset("s", array)
    assert np.array_equal(con.tensorget("s"), array)
    values = con.tensorget("s", as_numpy=False)
    assert values["dtype"] == "STRING"
    assert values["values"] == ["a", "bc", "äö", ""]
    con.tensorset("s", ["x", "y z"], dtype="str")
    assert con.tensorget("s").tolist() == ["x", "y z"]


def test_lists_come_back_as_values(con):
    con.tensorset("x", [2.5, 3, -1], dtype="float")
    got = con.tensorget("x", as_numpy=False)
    assert got == {"dtype": "FLOAT", "shape": [3], "values": [2.5, 3.0, -1.0]}
    con.tensorset("x", (1, 2, 3, 4), dtype="int64", shape=(2, 2))
    assert con.tensorget("x", as_numpy=False) == {"dtype": "INT64", "shape": [2, 2], "values": [1, 2, 3, 4]}
    con.tensorset("x", [1, 0], dtype="bool")
    assert con.tensorget("x").tolist() == [True, False]


def test_errors_are_the_originals(con):
    with pytest.raises(ResponseError, match="tensor key is empty or in a different shard"):
        con.tensorget("nothing")
    with pytest.raises(ResponseError, match=r"wrong number of values was given in 'AI.TENSORSET' command"):
        con.tensorset("x", (2, 3, 4), shape=(2,), dtype="float")
    with pytest.raises(ResponseError, match="invalid value"):
        con.tensorset("x", [1.87], dtype="int32")
    con.set("k", 1)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        con.tensorget("k")


def test_a_pipeline_and_a_transaction_carry_tensors(con):
    for transaction in (True, False):
        pipe = con.pipeline(transaction=transaction)
        pipe = pipe.tensorset("x", np.array([2.0, 3.0]))
        pipe.set("native", 1)
        pipe = pipe.tensorget("x")
        pipe = pipe.tensorget("x", as_numpy=False)
        pipe = pipe.tensorget("x", meta_only=True)
        result = pipe.execute()
        assert result[:2] == [b"OK", True]
        assert result[2].tolist() == [2.0, 3.0]
        assert result[3] == {"dtype": "DOUBLE", "shape": [2], "values": [2.0, 3.0]}
        assert result[4]["shape"] == [2]
