import os
from pathlib import Path

import numpy as np
import pytest
from smartredis import Client
from smartredis.error import RedisReplyError

SERVERS = os.environ["SERVERS"].split()
CLUSTERED = os.environ["SR_DB_TYPE"] == "Clustered"


@pytest.fixture
def client():
    return Client()


def test_servers_say_what_they_are(client):
    for facts in client.get_db_node_info(SERVERS):
        assert {"Server", "Memory", "Modules", "Keyspace"} <= facts.keys()
    if CLUSTERED:
        assert client.get_db_cluster_info(SERVERS[:1])[0]["cluster_state"] == "ok"


def test_statistics_are_told(client):
    client.set_model_from_file("m", os.path.join(os.environ["MODELS"], "linear.pt"), "TORCH", tag="told")
    client.put_tensor("in", np.zeros((2, 3), np.float32))
    client.run_model("m", ["in"], ["out"])
    facts = client.get_ai_info(SERVERS, "m")
    assert sum(int(fact["calls"]) for fact in facts) == 1
    assert sum(int(fact["samples"]) for fact in facts) == 2
    assert {fact["tag"] for fact in facts} == {"told"}
    for server in SERVERS:
        with pytest.raises(RedisReplyError, match="REDIS_REPLY_STATUS"):  # the client trips over the protocol's OK
            client.get_ai_info([server], "m", reset_stat=True)
    assert sum(int(fact["calls"]) for fact in client.get_ai_info(SERVERS, "m")) == 0


def test_configuration_saving_and_flushing(client):
    for server in SERVERS:
        client.config_set("lfu-log-factor", "12", server)
        assert client.config_get("lfu-log-factor", server) == {"lfu-log-factor": "12"}
        with pytest.raises(RedisReplyError):
            client.config_set("no-such-parameter", "1", server)
    client.put_tensor("t", np.zeros(1))
    client.save(SERVERS)
    client.flush_db(SERVERS)
    assert not client.tensor_exists("t")


def test_the_chunk_size_is_set(client):
    blob = Path(os.environ["MODELS"], "linear.pt").read_bytes()
    client.set_model_chunk_size(len(blob))  # of several chunks, smartredis 0.6.1 copies each over the one before
    client.set_model("m", blob, "TORCH")
    assert client.get_model("m") == blob
    client.set_model_chunk_size(511 * 1024 * 1024)
