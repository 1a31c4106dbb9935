from __future__ import annotations

import numpy as np
import pytest

from taskensemble.ai import Client, Dataset
from taskensemble.ai.error import RedisKeyError, RedisRuntimeError


def sample(name: str, value: float = 1.0) -> Dataset:
    dataset = Dataset(name)
    dataset.add_tensor("x", np.full((2, 3), value))
    dataset.add_tensor("y", np.arange(4, dtype=np.int16))
    dataset.add_meta_scalar("step", 3)
    dataset.add_meta_string("units", "K")
    dataset.add_meta_string("units", "m")
    return dataset


def same(first: Dataset, second: Dataset) -> bool:
    return (
        first.get_tensor_names() == second.get_tensor_names()
        and all(np.array_equal(first.get_tensor(n), second.get_tensor(n)) for n in first.get_tensor_names())
        and first.encoded_metadata() == second.encoded_metadata()
    )


def test_a_dataset_comes_back_as_it_was(client: Client) -> None:
    client.put_dataset(sample("d"))
    again = client.get_dataset("d")
    assert again.get_name() == "d"
    assert again.get_tensor_names() == ["x", "y"]
    assert np.array_equal(again.get_tensor("x"), np.ones((2, 3)))
    assert again.get_tensor("y").dtype == np.int16
    assert again.get_meta_scalars("step").tolist() == [3]
    assert again.get_meta_strings("units") == ["K", "m"]


@pytest.mark.parametrize("part", ["nothing", "metadata", "tensors"])
def test_a_dataset_may_be_partly_empty(client: Client, part: str) -> None:
    dataset = Dataset("p")
    if part == "metadata":
        dataset.add_meta_scalar("a", 1.5)
    if part == "tensors":
        dataset.add_tensor("t", np.zeros(2))
    client.put_dataset(dataset)
    assert client.dataset_exists("p")
    assert same(client.get_dataset("p"), dataset)


def test_a_dataset_is_replaced_copied_renamed_and_deleted(client: Client) -> None:
    client.put_dataset(sample("d"))
    client.put_dataset(sample("d", 2.0))
    client.copy_dataset("d", "e")
    client.rename_dataset("e", "f")
    assert not client.dataset_exists("e")
    assert same(client.get_dataset("f"), sample("f", 2.0))
    client.rename_dataset("f", "f")
    assert client.dataset_exists("f")
    client.delete_dataset("f")
    assert not client.dataset_exists("f")
    assert not client.key_exists("{f}.x")
    assert client.poll_dataset("d", 1, 1)
    assert not client.poll_dataset("f", 1, 2)


def test_a_missing_dataset_is_an_error(client: Client) -> None:
    with pytest.raises(RedisKeyError, match='"nothing", does not exist'):
        client.get_dataset("nothing")
    with pytest.raises(RedisKeyError):
        client.copy_dataset("nothing", "x")
    with pytest.raises(RedisKeyError):
        client.rename_dataset("nothing", "x")
    with pytest.raises(RedisRuntimeError):
        client.delete_dataset("nothing")


def test_a_list_gathers_datasets_in_order(client: Client) -> None:
    for i in range(5):
        client.put_dataset(sample(f"d{i}", i))
        client.append_to_list("L", sample(f"d{i}", i))
    assert client.get_list_length("L") == 5
    assert [d.get_name() for d in client.get_datasets_from_list("L")] == [f"d{i}" for i in range(5)]
    assert [d.get_tensor("x")[0, 0] for d in client.get_dataset_list_range("L", 1, 2)] == [1, 2]
    assert [d.get_name() for d in client.get_dataset_list_range("L", -2, 100)] == ["d3", "d4"]
    assert client.get_dataset_list_range("L", 3, 1) == []
    assert client.get_datasets_from_list("nothing") == []


def test_a_list_is_copied_renamed_and_deleted(client: Client) -> None:
    client.put_dataset(sample("d"))
    client.append_to_list("L", sample("d"))
    client.copy_list("L", "M")
    client.copy_list("L", "L")
    client.rename_list("M", "N")
    client.rename_list("N", "N")
    assert [client.get_list_length(name) for name in ("L", "M", "N")] == [1, 0, 1]
    client.delete_list("L")
    client.delete_list("L")
    assert client.get_list_length("L") == 0
    assert client.dataset_exists("d")
    for call in (client.copy_list, client.rename_list):
        with pytest.raises(RedisRuntimeError, match="does not exist"):
            call("nothing", "x")
        for words in (("", "x"), ("L", "")):
            with pytest.raises(ValueError, match="empty"):
                call(*words)
    with pytest.raises(ValueError, match="empty"):
        client.get_datasets_from_list("")
    with pytest.raises(ValueError, match="list_length"):
        client.poll_list_length("L", -1, 1, 1)


def test_the_length_of_a_list_can_be_waited_for(client: Client) -> None:
    client.append_to_list("L", sample("d"))
    client.append_to_list("L", sample("d"))
    assert client.poll_list_length("L", 2, 1, 2)
    assert not client.poll_list_length("L", 1, 1, 2)
    assert client.poll_list_length_gte("L", 1, 1, 1)
    assert not client.poll_list_length_gte("L", 3, 1, 2)
    assert client.poll_list_length_lte("L", 2, 1, 1)
    assert not client.poll_list_length_lte("L", 1, 1, 2)
