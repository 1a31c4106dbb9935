"""A model of every backend through replication, RDB, append-only file, DUMP and COPY: afterwards it computes the same bits."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taskensemble.database import free_port

torch = pytest.importorskip("torch")

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
SCRIPT = "def f(tensors: List[Tensor], keys: List[str], args: List[str]):\n    return tensors[0] * float(args[0])\n"


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def product_onnx() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3), "w")],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


def forest_onnx() -> bytes:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestRegressor

    x = np.random.default_rng(3).random((20, 4), np.float32)
    forest = RandomForestRegressor(5, random_state=1).fit(x, x[:, 0])
    return bytes(to_onnx(forest, x[:1]).SerializeToString())


def stores(folder: Path) -> dict[str, tuple[Any, ...]]:
    """The command that stores each model, by key; with batching and tags, so that those are kept as well."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).eval()
    archive, program = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.script(module), archive)
    torch.export.save(torch.export.export(module, (torch.zeros(2, 4),)), program)
    given, *produced = (folder / "frozen.names").read_text().split()
    return {
        "torchscript": ("TORCH", "CPU", "TAG", "v1", "BATCHSIZE", 4, "BLOB", archive.getvalue()),
        "program": ("TORCH", "CPU", "BLOB", program.getvalue()),
        "frozen": (
            "TF", "CPU", "INPUTS", 1, given, "OUTPUTS", 1, produced[0], "BLOB", (folder / "frozen.pb").read_bytes()
        ),
        "saved": (
            "TF", "CPU", "INPUTS", 1, "x", "OUTPUTS", 1, "product", "BLOB", (folder / "saved.tar").read_bytes()
        ),
        "lite": ("TFLITE", "CPU", "TAG", "lite", "BLOB", (folder / "dense.tflite").read_bytes()),
        "onnx": (
            "ONNX", "CPU", "BATCHSIZE", 8, "MINBATCHSIZE", 1, "MINBATCHTIMEOUT", 5, "BLOB", product_onnx()
        ),
        "forest": ("ONNX", "CPU", "BLOB", forest_onnx()),
    }  # fmt: skip


def outputs(server: Any, keys: list[str], suffix: str = "") -> dict[str, bytes]:
    """What each model and the script compute now."""
    server.put("x", X)
    found = {}
    for key in keys:
        server("AI.MODELEXECUTE", key + suffix, "INPUTS", 1, "x", "OUTPUTS", 1, "y")
        found[key] = server("AI.TENSORGET", "y", "BLOB")
    server("AI.SCRIPTEXECUTE", "script" + suffix, "f", "INPUTS", 1, "x", "ARGS", 1, "2.5", "OUTPUTS", 1, "y")
    return found | {"script": server("AI.TENSORGET", "y", "BLOB")}


def blobs(server: Any, keys: list[str]) -> dict[str, Any]:
    """What is stored: description and bytes."""
    found = {key: server("AI.MODELGET", key) for key in keys}
    for reply in found.values():
        reply[11] = reply[13] = None  # names that a worker tells when it has loaded the model
    return found | {"script": server("AI.SCRIPTGET", "script")}


def test_a_model_of_every_backend_survives_replication_and_restarts_bit_for_bit(
    start: Callable[..., Any], tf_models: Path
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("skl2onnx")
    appending = {"appendonly": "yes", "aof-use-rdb-preamble": "no", "appendfsync": "always"}
    commands = stores(tf_models)
    keys = list(commands)
    port = free_port()
    server = start(settings=appending, port=port)
    for key in keys[:4]:
        assert server("AI.MODELSTORE", key, *commands[key]) == b"OK"

    replica = start(settings={"repl-diskless-load": "disabled"}, supervise=False)
    replica("REPLICAOF", "127.0.0.1", port)
    until(lambda: replica.client.info("replication")["master_link_status"] == "up")
    for key in keys[4:]:
        assert server("AI.MODELSTORE", key, *commands[key]) == b"OK"
    server("AI.SCRIPTSTORE", "script", "CPU", "ENTRY_POINTS", 1, "f", "SOURCE", SCRIPT)
    expected, stored = outputs(server, keys), blobs(server, keys)
    assert expected["script"] == (X * 2.5).tobytes()

    for key in [*keys, "script"]:
        server("RESTORE", f"{key}-restored", 0, server("DUMP", key))
        server("COPY", key, f"{key}-copied")
    assert outputs(server, keys, "-restored") == expected
    assert outputs(server, keys, "-copied") == expected

    until(lambda: replica.client.exists("script-copied"))
    assert blobs(replica, keys) == stored
    replica("REPLICAOF", "NO", "ONE")
    replica("SAVE")
    replica.stop()
    server("BGREWRITEAOF")
    until(lambda: not server.client.info("persistence")["aof_rewrite_in_progress"])
    server.client.connection_pool.disconnect()
    server.stop()

    from_rdb = start(folder=replica.folder)
    assert blobs(from_rdb, keys) == stored
    assert outputs(from_rdb, keys) == expected
    assert outputs(from_rdb, keys, "-copied") == expected
    from_rdb.stop()
    from_commands = start(folder=server.folder, settings=appending)
    assert blobs(from_commands, keys) == stored
    assert outputs(from_commands, keys) == expected
