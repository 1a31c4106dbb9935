from __future__ import annotations

import pytest
from ai_database import Database

from taskensemble.ai import Client
from taskensemble.ai.error import RedisConnectionError, RedisRuntimeError


@pytest.fixture
def address(client: Client) -> str:
    return str(client._topology.addresses()[-1])


def test_a_server_says_what_it_is(client: Client, address: str) -> None:
    facts = client.get_db_node_info([address])[0]
    assert facts["Server"]["tcp_port"] == address.rpartition(":")[2]
    assert "used_memory" in facts["Memory"]


def test_configuration_is_read_and_set(client: Client, address: str) -> None:
    client.config_set("lfu-log-factor", "11", address)
    assert client.config_get("lfu-log-factor", address) == {"lfu-log-factor": "11"}
    assert client.config_get("no-such-*", address) == {}
    with pytest.raises(RedisRuntimeError, match="no-such-parameter"):
        client.config_set("no-such-parameter", "1", address)


def test_a_snapshot_can_be_asked_for(client: Client, address: str) -> None:
    client.save([address])
    assert int(client.get_db_node_info([address])[0]["Persistence"]["rdb_last_save_time"]) > 0


@pytest.mark.parametrize("wrong", ["127.0.0.1:1", "nonsense"])
def test_a_foreign_address_is_refused(client: Client, wrong: str) -> None:
    for call in (
        lambda: client.get_db_node_info([wrong]),
        lambda: client.config_get("*", wrong),
        lambda: client.save([wrong]),
        lambda: client.flush_db([wrong]),
        lambda: client.get_ai_info([wrong], "m"),
    ):
        with pytest.raises(RedisRuntimeError, match=wrong):
            call()


def test_only_a_cluster_knows_about_clusters(client: Client, address: str) -> None:
    if client._topology.clustered:
        assert client.get_db_cluster_info([address])[0]["cluster_state"] == "ok"
    else:
        with pytest.raises(RedisRuntimeError, match="non-cluster"):
            client.get_db_cluster_info([address])


def test_a_single_server_is_no_cluster(database: Database) -> None:
    with pytest.raises(RedisConnectionError, match="cluster support disabled"):
        Client(cluster=True, address=database.address)
