from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from taskensemble.ai import Client
from taskensemble.ai.error import RedisRuntimeError

torch = pytest.importorskip("torch")

SCRIPT = """
def total(a, b):
    return a + b

def halves(x):
    return x / 2, x / 2
"""


def doubled(x):
    return x * 2.0


@pytest.fixture(scope="module")
def blob() -> bytes:
    layer = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(layer.weight, 0.5)
    torch.nn.init.constant_(layer.bias, 1.0)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(layer, torch.zeros(1, 3)), buffer)
    return buffer.getvalue()


def servers(client: Client) -> list[str]:
    return [str(address) for address in client._topology.addresses()]


def test_a_model_is_stored_run_fetched_and_deleted(client: Client, blob: bytes) -> None:
    client.set_model("m", blob, "TORCH", "CPU", tag="first")
    assert client.model_exists("m")
    assert client.poll_model("m", 1, 1)
    assert client.get_model("m") == blob
    for i in range(6):  # on a cluster, from and to several shards
        client.put_tensor(f"in{i}", np.full((4, 3), i, np.float32))
        client.run_model("m", inputs=f"in{i}", outputs=[f"out{i}"])
        assert np.allclose(client.get_tensor(f"out{i}"), np.full((4, 2), 1.5 * i + 1))
    assert sum(int(client.get_ai_info([server], "m")[0]["calls"]) for server in servers(client)) == 6
    client.delete_model("m")
    assert not client.model_exists("m")
    with pytest.raises(RedisRuntimeError, match="model key is empty"):
        client.run_model("m", ["in1"], ["out"])


def test_a_model_comes_from_a_file(client: Client, blob: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(blob)
    client.set_model_from_file("f", str(path), "torch", batch_size=4, min_batch_size=2, min_batch_timeout=10)
    client.put_tensor("in", np.zeros((1, 3), np.float32))
    client.run_model("f", ["in"], ["out"])
    assert client.get_tensor("out").tolist() == [[1.0, 1.0]]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        client.set_model_from_file("f", "nowhere.pt", "TORCH")


def test_statistics_are_told_and_reset(client: Client, blob: bytes) -> None:
    client.set_model("m", blob, "TORCH", tag="mine")
    facts = client.get_ai_info(servers(client)[:1], "m")[0]
    assert (facts["backend"], facts["device"], facts["tag"], facts["type"]) == ("TORCH", "CPU", "mine", "MODEL")
    client.put_tensor("in", np.zeros((5, 3), np.float32))
    client.run_model("m", ["in"], ["out"])
    told = client.get_ai_info(servers(client), "m", reset_stat=True)
    assert sum(int(facts["samples"]) for facts in told) == 5
    assert all(facts["calls"] == "0" for facts in client.get_ai_info(servers(client), "m"))


def test_scripts_run_any_of_their_functions(client: Client, tmp_path: Path) -> None:
    client.set_script("s", SCRIPT)
    assert client.get_script("s") == SCRIPT
    client.put_tensor("a", np.ones(3))
    client.put_tensor("b", np.full(3, 2.0))
    client.run_script("s", "total", ["a", "b"], "c")
    client.run_script("s", "halves", "c", ["d", "e"])
    assert client.get_tensor("d").tolist() == [1.5] * 3
    with pytest.raises(RedisRuntimeError, match="nosuch"):
        client.run_script("s", "nosuch", ["a"], ["c"])
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    client.set_script_from_file("s2", str(path))
    client.run_script("s2", "total", ["a", "a"], ["c"])
    assert client.get_tensor("c").tolist() == [2.0] * 3
    client.delete_script("s")
    assert not client.model_exists("s")


def test_a_function_becomes_a_script(client: Client) -> None:
    client.set_function("f", doubled)
    client.put_tensor("a", np.ones(2))
    client.run_script("f", "doubled", "a", "b")
    assert client.get_tensor("b").tolist() == [2.0, 2.0]

    def inner(x):
        return x + 1.0

    client.set_function("g", inner)
    client.run_script("g", "inner", "b", "b")
    assert client.get_tensor("b").tolist() == [3.0, 3.0]


def test_a_gpu_that_is_not_there_is_an_error_at_once(client: Client, blob: bytes) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(RedisRuntimeError):
        client.set_model_multigpu("m", blob, "TORCH", 0, 2)


def test_a_broken_model_is_refused_when_it_is_stored(client: Client) -> None:
    with pytest.raises(RedisRuntimeError, match=r"Client\.set_model execution failed"):
        client.set_model("broken", b"not a model", "TORCH")
    assert not client.model_exists("broken")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"backend": "MAGIC"}, TypeError),
        ({"backend": "TORCH", "device": "TPU"}, TypeError),
        ({"backend": "TORCH", "batch_size": "1"}, TypeError),
        ({"backend": "TORCH", "inputs": ["a"]}, ValueError),
        ({"backend": "TORCH", "min_batch_size": 2}, RedisRuntimeError),
        ({"backend": "TORCH", "batch_size": 2, "min_batch_timeout": 2}, RedisRuntimeError),
    ],
)
def test_wrong_arguments_are_refused(client: Client, arguments: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        client.set_model("m", b"", **arguments)


@pytest.mark.parametrize(("first", "number"), [(-1, 2), (0, 0)])
def test_a_range_of_gpus_must_make_sense(client: Client, first: int, number: int) -> None:
    for call in (
        lambda: client.set_script_multigpu("s", SCRIPT, first, number),
        lambda: client.run_model_multigpu("m", 0, first, number, ["a"], ["b"]),
        lambda: client.delete_model_multigpu("m", first, number),
    ):
        with pytest.raises(ValueError, match="must be a"):
            call()
