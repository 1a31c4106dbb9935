"""A clustered database: through redis-py's cluster client, which finds each command's keys, and through redisai on one shard."""

import os
from pathlib import Path

import numpy as np
import pytest
import redisai
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, ResponseError

MODELS = Path(os.environ["MODELS"])
INPUT = np.arange(12, dtype=np.float32).reshape(4, 3)
EXPECTED = np.repeat((INPUT.sum(1) / 2 + 1)[:, None], 2, axis=1)
SCRIPT = """
def double(tensors: List[Tensor], keys: List[str], args: List[str]):
    redis.execute("SET", keys[0], args[0])
    return tensors[0] * 2
"""


@pytest.fixture
def cluster():
    made = RedisCluster(startup_nodes=[ClusterNode(*address.split(":")) for address in os.environ["SERVERS"].split()])
    yield made
    made.close()


@pytest.mark.parametrize("tag", ["{1}", "{2}", "{3}", "{8}"])
def test_a_cluster_client_finds_the_shard_of_every_command(cluster, tag):
    run = cluster.execute_command
    keys = {name: name + tag for name in ("m", "s", "x", "y", "z", "note")}
    run("AI.TENSORSET", keys["x"], "FLOAT", 4, 3, "BLOB", INPUT.tobytes())
    run("AI.MODELSTORE", keys["m"], "TORCH", "CPU", "BLOB", (MODELS / "linear.pt").read_bytes())
    run("AI.SCRIPTSTORE", keys["s"], "CPU", "ENTRY_POINTS", 1, "double", "SOURCE", SCRIPT)
    run("AI.MODELEXECUTE", keys["m"], "INPUTS", 1, keys["x"], "OUTPUTS", 1, keys["y"])
    assert np.allclose(np.frombuffer(run("AI.TENSORGET", keys["y"], "BLOB"), "f4"), EXPECTED.ravel())
    run("AI.SCRIPTEXECUTE", keys["s"], "double", "KEYS", 1, keys["note"], "INPUTS", 1, keys["y"], "ARGS", 1, "told",
        "OUTPUTS", 1, keys["z"])  # fmt: skip
    assert cluster.get(keys["note"]) == b"told"
    replies = run(
        "AI.DAGEXECUTE", "LOAD", 1, keys["x"], "PERSIST", 1, keys["y"],
        "|>", "AI.MODELEXECUTE", keys["m"], "INPUTS", 1, keys["x"], "OUTPUTS", 1, keys["y"],
        "|>", "AI.TENSORGET", keys["y"], "META",
    )  # fmt: skip
    assert replies == [b"OK", [b"dtype", b"FLOAT", b"shape", [4, 2]]]
    replies = run(
        "AI.DAGEXECUTE_RO", "ROUTING", tag, "|>", "AI.TENSORSET", "a", "FLOAT", 1, "|>", "AI.TENSORGET", "a", "VALUES"
    )
    assert replies == [b"OK", [b"0"]]
    run("AI.MODELRUN", keys["m"], "INPUTS", keys["x"], "OUTPUTS", keys["z"])
    assert run("AI.INFO", keys["m"])[15] == 3  # calls
    assert run("AI.MODELDEL", keys["m"]) == b"OK"


def test_keys_of_two_slots_are_refused(cluster):
    run = cluster.execute_command
    run("AI.TENSORSET", "x{1}", "FLOAT", 1)
    run("AI.MODELSTORE", "m{1}", "TORCH", "CPU", "BLOB", (MODELS / "linear.pt").read_bytes())
    for words in [
        ("AI.MODELEXECUTE", "m{1}", "INPUTS", 1, "x{1}", "OUTPUTS", 1, "y{2}"),
        ("AI.DAGEXECUTE", "LOAD", 1, "x{1}", "PERSIST", 1, "y{2}", "|>", "AI.TENSORSET", "y{2}", "FLOAT", 1),
    ]:
        with pytest.raises((ResponseError, RedisClusterException), match="same"):
            run(*words)
        with pytest.raises(ResponseError, match="Keys in request don't hash to the same slot"):
            run(*words, target_nodes=cluster.get_node_from_key("x{1}"))


def test_redisai_works_on_the_shard_that_has_the_tag(cluster):
    node = cluster.get_node_from_key("x{1}")
    con = redisai.Client(host=node.host, port=node.port)
    con.tensorset("x{1}", INPUT)
    con.modelstore("m{1}", "TORCH", "CPU", (MODELS / "linear.pt").read_bytes())
    con.modelexecute("m{1}", inputs=["x{1}"], outputs=["y{1}"])
    assert np.allclose(con.tensorget("y{1}"), EXPECTED)
    dag = con.dag(load="x{1}", persist="z{1}").modelexecute("m{1}", "x{1}", "z{1}").tensorget("z{1}")
    assert np.allclose(dag.execute()[1], EXPECTED)
    assert con.infoget("m{1}")["calls"] == 2
    elsewhere = next(f"x{{{number}}}" for number in range(99) if cluster.get_node_from_key(f"x{{{number}}}") != node)
    with pytest.raises(ResponseError, match="MOVED"):
        con.tensorset(elsewhere, INPUT)
