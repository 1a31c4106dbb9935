"""Keras and TensorFlow models as frozen graphs: what `add_ml_model` and `Client.set_model` take for the backend TF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def serialize_model(model: Any) -> tuple[bytes, list[str], list[str]]:
    """Freeze a model.

    Arguments:
        model: a Keras model, built, so that it knows its inputs.

    Returns:
        The graph with its weights as constants, the names of its input nodes and those of its output nodes, in order:
        the `model`, `inputs` and `outputs` of `add_ml_model`.
    """
    frozen = _frozen(model)
    return (
        frozen.graph.as_graph_def().SerializeToString(deterministic=True),
        _nodes(frozen.inputs),
        _nodes(frozen.outputs),
    )


def freeze_model(model: Any, output_dir: str, file_name: str) -> tuple[str, list[str], list[str]]:
    """Freeze a model into a file.

    Arguments:
        model: a Keras model, built, so that it knows its inputs.
        output_dir: a folder, made if it does not exist.
        file_name: `.pb` is added if it has no such ending.

    Returns:
        The absolute path of the file, the names of the input nodes and those of the output nodes.
    """
    graph, inputs, outputs = serialize_model(model)
    path = Path(output_dir, file_name if file_name.endswith(".pb") else file_name + ".pb").resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph)
    return str(path), inputs, outputs


def _frozen(model: Any) -> Any:
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"{model!r} does not know its inputs: build it first; a subclass of keras.Model is wrapped as "
            "keras.Model(inputs=given, outputs=model(given)) with given = keras.Input(shape)"
        )
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]

    def infer(*tensors: Any) -> Any:
        return model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

    return convert_variables_to_constants_v2(tf.function(infer).get_concrete_function(*specs))


def _nodes(tensors: list[Any]) -> list[str]:
    return [tensor.name.split(":")[0] for tensor in tensors]
