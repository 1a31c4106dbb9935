"""Models and scripts on two GPUs, in the names that SmartRedis gives them; run where two workers offer GPU:0 and GPU:1.

No GPU is needed: the workers are toys, whose models are words (`echo` returns its input) and whose scripts know `sum`.
"""

import numpy as np
import pytest
from smartredis import Client
from smartredis.error import RedisReplyError, RedisRuntimeError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def client():
    made = Client()
    made.put_tensor("x", X)
    return made


def test_a_model_is_stored_for_each_gpu_and_run_on_one_by_offset(client, tmp_path):
    (tmp_path / "model").write_bytes(b"echo")
    for store, model in (
        (client.set_model_multigpu, b"echo"),
        (client.set_model_from_file_multigpu, str(tmp_path / "model")),
    ):
        store("m", model, "TORCH", 0, 2, 4, 2, 5, "tag")
        assert [client.model_exists(f"m.GPU:{gpu}") for gpu in (0, 1)] == [True, True]
        assert client.get_model("m.GPU:1") == b"echo"
        for offset in range(4):
            client.run_model_multigpu("m", offset, 0, 2, ["x"], [f"y{offset}"])
            np.testing.assert_array_equal(client.get_tensor(f"y{offset}"), X)
        client.delete_model_multigpu("m", 0, 2)
        assert [client.model_exists(f"m.GPU:{gpu}") for gpu in (0, 1)] == [False, False]


def test_a_script_is_stored_for_each_gpu_and_run_on_one_by_offset(client, tmp_path):
    source = "def sum(a, b):\n    return a + b\n"
    (tmp_path / "script").write_text(source)

    def sum(a, b):
        return a + b

    client.set_script_multigpu("s", source, 0, 2)
    client.set_script_from_file_multigpu("f", str(tmp_path / "script"), 0, 2)
    client.set_function_multigpu("g", sum, 0, 2)
    for name in "sfg":
        assert "def sum(a, b):" in client.get_script(f"{name}.GPU:1")
        for offset in range(2):
            client.run_script_multigpu(name, "sum", ["x", "x"], ["z"], offset, 0, 2)
            np.testing.assert_array_equal(client.get_tensor("z"), X + X)
        client.delete_script_multigpu(name, 0, 2)
        with pytest.raises((RedisReplyError, RedisRuntimeError)):
            client.get_script(f"{name}.GPU:0")


def test_a_gpu_that_nobody_offers_is_an_error_at_once(client):
    with pytest.raises((RedisReplyError, RedisRuntimeError)):
        client.set_model("m", b"echo", "TORCH", device="GPU:7")
