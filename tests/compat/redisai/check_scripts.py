import os
import warnings

import pytest
import redisai
from redis.exceptions import ResponseError

SOURCE = """
def bar(a, b):
    return a + b

def bar_many(a, args: List[Tensor]):
    return a + args[0] + args[1]
"""
ENTRY_POINTS = """
def total(tensors: List[Tensor], keys: List[str], args: List[str]):
    out = tensors[0]
    for i in range(1, len(tensors)):
        out = out + tensors[i]
    return out * float(args[0])

def both(tensors: List[Tensor], keys: List[str], args: List[str]):
    return [tensors[0], tensors[0] + 1]

def count(tensors: List[Tensor], keys: List[str], args: List[str]):
    return torch.tensor(len(keys))
"""


@pytest.fixture
def con():
    con = redisai.Client(host=os.environ["DB_HOST"], port=int(os.environ["DB_PORT"]))
    con.flushdb()
    con.tensorset("a", [2.0, 3.0], dtype="float")
    con.tensorset("b", [1.0, 1.0], dtype="float")
    return con


def test_a_script_with_entry_points(con):
    assert con.scriptstore("s", "CPU", ENTRY_POINTS, ["total", "both", "count"], tag="v1") == "OK"
    assert con.scriptexecute("s", "total", inputs=["a", "b"], args=["2.0"], outputs=["c"]) == "OK"
    assert con.tensorget("c").tolist() == [6.0, 8.0]
    con.scriptexecute("s", "both", inputs="a", outputs=["c", "d"])
    assert con.tensorget("d").tolist() == [3.0, 4.0]
    con.scriptexecute("s", "count", keys=["x", "y"], outputs=["n"])
    assert con.tensorget("n").item() == 2
    stored = con.scriptget("s")
    assert stored["source"] == ENTRY_POINTS
    assert (stored["device"], stored["tag"]) == ("CPU", "v1")
    assert [name.decode() for name in stored["entry points"]] == ["total", "both", "count"]
    assert "source" not in con.scriptget("s", meta_only=True)
    assert con.infoget("s")["calls"] == 3
    assert con.infoget("s")["samples"] == -1


def test_the_older_commands_still_work(con):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert con.scriptset("s", "CPU", SOURCE, tag="old") == "OK"
        assert con.scriptrun("s", "bar", ["a", "b"], ["c"]) == "OK"
        assert con.tensorget("c").tolist() == [3.0, 4.0]
        assert con.scriptrun("s", "bar_many", ["a", "$", "b", "b"], ["c"]) == "OK"
        assert con.tensorget("c").tolist() == [4.0, 5.0]
        assert con.scriptscan() == [["s", "old"]]
    assert con.scriptdel("s") == "OK"
    with pytest.raises(ResponseError, match="script key is empty"):
        con.scriptget("s")


def test_errors_are_the_originals(con):
    with pytest.raises(ResponseError):
        con.scriptset("s", "CPU", "return 1")
    with pytest.raises(ResponseError, match="Function nosuch does not exist in the given script"):
        con.scriptstore("s", "CPU", ENTRY_POINTS, ["nosuch"])
    con.scriptstore("s", "CPU", ENTRY_POINTS, ["total"])
    with pytest.raises(ResponseError, match="Function does not exist: nosuch"):
        con.scriptexecute("s", "nosuch", inputs=["a"], outputs=["c"])
    with pytest.raises(ResponseError, match="tensor key is empty"):
        con.scriptexecute("s", "total", inputs=["nothing"], args=["1"], outputs=["c"])
    with pytest.raises(ResponseError, match="The following operation failed in the TorchScript interpreter"):
        con.scriptexecute("s", "total", inputs=["a", "b"], outputs=["c"])
