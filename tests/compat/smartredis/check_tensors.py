import numpy as np
import pytest
from smartredis import Client
from smartredis.error import RedisReplyError


@pytest.fixture
def client():
    return Client()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16"])
def test_arrays_come_back(client, dtype):
    array = np.random.default_rng(1).integers(0, 100, (2, 3, 4)).astype(dtype)
    client.put_tensor("t", array)
    again = client.get_tensor("t")
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


def test_a_large_array_comes_back(client):
    array = np.random.default_rng(1).random(1_000_000)
    client.put_tensor("large", array)
    assert np.array_equal(client.get_tensor("large"), array)


def test_copy_rename_delete_and_existence(client):
    client.put_tensor("a", np.ones(3))
    client.copy_tensor("a", "b")
    client.rename_tensor("b", "c")
    assert [client.tensor_exists(name) for name in "abc"] == [True, False, True]
    assert client.key_exists("a")
    assert client.poll_tensor("a", 1, 2)
    assert client.poll_key("a", 1, 2)
    assert not client.poll_tensor("b", 1, 2)
    client.delete_tensor("c")
    assert not client.tensor_exists("c")


def test_a_missing_tensor_is_an_error(client):
    for call in (
        lambda: client.get_tensor("none"),
        lambda: client.copy_tensor("none", "x"),
        lambda: client.rename_tensor("none", "x"),
    ):
        with pytest.raises(RedisReplyError):
            call()


def test_prefixes_keep_members_apart(monkeypatch):
    monkeypatch.setenv("SSKEYIN", "p,q")
    monkeypatch.setenv("SSKEYOUT", "p")
    p = Client()
    monkeypatch.setenv("SSKEYOUT", "q")
    q = Client()
    p.put_tensor("t", np.zeros(1))
    q.put_tensor("t", np.ones(1))
    assert p.get_tensor("t")[0] == 0
    p.set_data_source("q")
    assert p.get_tensor("t")[0] == 1
    assert p.key_exists("q.t")
