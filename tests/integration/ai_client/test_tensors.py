from __future__ import annotations

import multiprocessing
import threading
import time

import ai_database
import numpy as np
import pytest
from ai_database import Database

from taskensemble.ai import Client
from taskensemble.ai.error import RedisReplyError, RedisRuntimeError

TYPES = ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1,), (3, 4), (2, 1, 5, 1)])
def test_a_tensor_comes_back_as_it_was(client: Client, dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)) - 1).astype(dtype).reshape(shape)
    client.put_tensor("t", array)
    again = client.get_tensor("t")
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)
    again[...] = 0


@pytest.mark.parametrize("elements", [16 * 1024 // 8, 100_000, 4_000_000])
def test_tensors_of_any_size_come_back_whole(client: Client, elements: int) -> None:
    array = np.random.default_rng(1).random(elements)
    client.put_tensor("large", array)
    assert np.array_equal(client.get_tensor("large"), array)


def test_memory_layout_does_not_matter(client: Client) -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    for i, view in enumerate((array.T, np.asfortranarray(array), array[:, ::2], array[::-1], array.astype(">f8"))):
        client.put_tensor(f"v{i}", view)
        assert np.array_equal(client.get_tensor(f"v{i}"), view)


def test_a_tensor_is_copied_renamed_and_deleted(client: Client) -> None:
    array = np.arange(5)
    client.put_tensor("a", array)
    client.copy_tensor("a", "b")
    for i in range(8):  # on a cluster, to the same and to other shards
        client.rename_tensor("b", f"b{i}")
        assert not client.tensor_exists("b")
        client.rename_tensor(f"b{i}", "b")
    assert np.array_equal(client.get_tensor("b"), array)
    client.delete_tensor("b")
    assert not client.tensor_exists("b")
    assert client.tensor_exists("a")
    client.delete_tensor("b")


@pytest.mark.parametrize("call", ["get_tensor", "copy_tensor", "rename_tensor"])
def test_a_missing_tensor_is_an_error_that_names_the_method(client: Client, call: str) -> None:
    arguments = ["nothing"] if call == "get_tensor" else ["nothing", "else"]
    with pytest.raises(RedisRuntimeError, match=f"Client.{call} execution failed"):
        getattr(client, call)(*arguments)


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        (1, np.zeros(1), TypeError),
        ("t", [1.0], TypeError),
        ("t", np.zeros(1, bool), TypeError),
        ("t", np.zeros(1, np.uint64), TypeError),
        ("t", np.zeros(1, np.complex128), TypeError),
        ("t", np.array(["text"]), TypeError),
        ("t", np.array(1.0), RedisReplyError),
        ("t", np.zeros((0, 3)), RedisReplyError),
        ("", np.zeros(1), RedisReplyError),
    ],
)
def test_what_no_client_could_read_is_refused(
    client: Client, name: str, data: np.ndarray, error: type[Exception]
) -> None:
    with pytest.raises(error):
        client.put_tensor(name, data)


def test_polling_sees_what_another_client_writes(client: Client) -> None:
    assert not client.poll_tensor("later", 10, 2)
    assert not client.poll_key("later", 1, 0)

    def write() -> None:
        time.sleep(0.2)
        client.put_tensor("later", np.zeros(1))

    thread = threading.Thread(target=write)
    thread.start()
    assert client.poll_tensor("later", 10, 1000)
    thread.join()
    assert client.poll_key("later", 1, 1)
    assert client.key_exists("later")


def test_threads_share_a_client(client: Client) -> None:
    def work(i: int) -> None:
        for j in range(50):
            client.put_tensor(f"t{i}", np.full(2000, i * 100 + j))
            assert client.get_tensor(f"t{i}")[0] == i * 100 + j

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(client.get_tensor(f"t{i}")[0] == i * 100 + 49 for i in range(4))


def test_a_forked_child_has_a_connection_of_its_own(client: Client) -> None:
    client.put_tensor("a", np.zeros(1))

    def child() -> None:
        for i in range(100):
            client.put_tensor("child", np.full(10, i))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    for _ in range(100):
        assert client.get_tensor("a")[0] == 0
    process.join(30)
    assert process.exitcode == 0
    assert client.get_tensor("child")[0] == 99


def test_a_unix_socket_serves_as_well(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSDB", f"unix://{database.socket}")
    monkeypatch.setenv("SR_DB_TYPE", "Standalone")
    client = Client()
    client.put_tensor("u", np.ones(100_000))
    assert client.get_tensor("u").sum() == 100_000
    assert str(database.socket) in str(client)
    assert (
        client.get_db_node_info([f"unix://{database.socket}"])[0]["Server"]["tcp_port"]
        == database.address.rpartition(":")[2]
    )


def test_a_client_outlives_a_restart_of_its_server() -> None:
    with ai_database.database(supervise=False) as running:
        client = Client(cluster=False, address=running.address)
        client.put_tensor("t", np.zeros(3))
        running.stop()
        threading.Timer(1.0, running.start).start()
        client.put_tensor("t", np.ones(3))
        assert client.get_tensor("t").sum() == 3
