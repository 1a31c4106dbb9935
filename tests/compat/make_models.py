"""Write models that map x of shape (n, 3) to (x.sum(1) / 2 + 1, twice): linear.pt, linear.onnx, linear.pb, linear.tflite.

A backend whose library is not installed is left out, and the checks skip it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def torch_model(folder: Path) -> None:
    import torch

    layer = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(layer.weight, 0.5)
    torch.nn.init.constant_(layer.bias, 1.0)
    torch.jit.save(torch.jit.trace(layer, torch.zeros(1, 3)), str(folder / "linear.pt"))


def onnx_model(folder: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["xw"]), helper.make_node("Add", ["xw", "b"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(np.full((3, 2), 0.5, np.float32), "w"),
            numpy_helper.from_array(np.full(2, 1.0, np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / "linear.onnx"))


def tensorflow_model(folder: Path) -> None:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def linear(x):  # type: ignore[no-untyped-def]
        return tf.matmul(x, tf.fill((3, 2), 0.5)) + 1.0

    function = tf.function(linear).get_concrete_function(tf.TensorSpec((None, 3), tf.float32, name="x"))
    frozen = convert_variables_to_constants_v2(function)
    (folder / "linear.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    names = (frozen.inputs[0].name.split(":")[0], frozen.outputs[0].name.split(":")[0])
    (folder / "linear.pb.names").write_text("\n".join(names))
    (folder / "linear.tflite").write_bytes(
        tf.lite.TFLiteConverter.from_concrete_functions(
            [tf.function(linear).get_concrete_function(tf.TensorSpec((4, 3), tf.float32))]
        ).convert()
    )


if __name__ == "__main__":
    makers = {"torch": torch_model, "onnx": onnx_model, "tensorflow": tensorflow_model}
    if importlib.util.find_spec(sys.argv[1]):
        makers[sys.argv[1]](Path(sys.argv[2]))
