import numpy as np
import pytest
from smartredis import Client, Dataset
from smartredis.error import RedisReplyError


@pytest.fixture
def client():
    return Client()


def sample(name, value=1.0):
    dataset = Dataset(name)
    dataset.add_tensor("x", np.full((2, 3), value))
    dataset.add_meta_scalar("step", 3)
    dataset.add_meta_string("units", "K")
    return dataset


def test_a_dataset_comes_back(client):
    client.put_dataset(sample("d"))
    again = client.get_dataset("d")
    assert np.array_equal(again.get_tensor("x"), np.ones((2, 3)))
    assert again.get_meta_scalars("step")[0] == 3
    assert again.get_meta_strings("units") == ["K"]


def test_copy_rename_delete_and_existence(client):
    client.put_dataset(sample("d"))
    client.copy_dataset("d", "e")
    client.rename_dataset("e", "f")
    assert [client.dataset_exists(name) for name in "def"] == [True, False, True]
    assert client.poll_dataset("f", 1, 2)
    client.delete_dataset("f")
    assert not client.dataset_exists("f")
    with pytest.raises(RedisReplyError):
        client.get_dataset("f")


def test_lists_gather_datasets(client):
    for i in range(4):
        client.put_dataset(sample(f"d{i}", i))
        client.append_to_list("L", sample(f"d{i}", i))
    assert client.get_list_length("L") == 4
    assert [d.get_tensor("x")[0, 0] for d in client.get_datasets_from_list("L")] == [0, 1, 2, 3]
    assert len(client.get_dataset_list_range("L", 1, 2)) == 2
    client.copy_list("L", "M")
    client.rename_list("M", "N")
    assert client.poll_list_length("N", 4, 1, 2)
    assert client.poll_list_length_gte("N", 3, 1, 2)
    assert client.poll_list_length_lte("N", 5, 1, 2)
    client.delete_list("N")
    assert client.get_list_length("N") == 0
