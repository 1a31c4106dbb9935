"""The TF backend: frozen graphs with named inputs and outputs, and SavedModels as one archive."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from . import tensorflow_saved_model
from .arrays import ArrayBackend
from .backend import WRONG_INPUTS, WRONG_OUTPUTS, BackendError, Threads
from .frames import Buffer
from .tensorflow_graph import check_nodes, library_of, node_name, reduced, tensor_name


def create(device: str, threads: Threads) -> TensorFlowBackend:
    """Make TensorFlow ready on CPU or GPU:n; raises BackendError when the GPU is not there."""
    tf.config.threading.set_intra_op_parallelism_threads(threads.intra_op)
    tf.config.threading.set_inter_op_parallelism_threads(threads.inter_op)
    kind, _, index = device.upper().partition(":")
    number = int(index or 0)
    if kind == "CPU":
        tf.config.set_visible_devices([], "GPU")
        return TensorFlowBackend("/CPU:0", threads)
    gpus = tf.config.list_physical_devices("GPU")
    if number >= len(gpus):
        raise BackendError(f"GPU:{number} requested but TensorFlow found {len(gpus)} GPUs")
    tf.config.set_visible_devices(gpus[number], "GPU")
    tf.config.experimental.set_memory_growth(gpus[number], True)
    return TensorFlowBackend("/GPU:0", threads)


class TensorFlowBackend(ArrayBackend):
    """TensorFlow on one device; every model is a session over a graph of constants."""

    def __init__(self, device: str, threads: Threads) -> None:
        self.version = str(tf.__version__)
        self._device = device
        self._threads = threads

    def load_model(self, blob: Buffer, inputs: list[str], outputs: list[str]) -> TensorFlowModel:
        """Load a frozen GraphDef, or a SavedModel in a tar or zip archive.

        Arguments:
            inputs: names of nodes or tensors of a frozen graph; for a SavedModel, of its signature's arguments.
            outputs: likewise.
        """
        blob = bytes(blob)
        if tensorflow_saved_model.is_archive(blob):
            return self._load_saved_model(blob, inputs, outputs)
        graph = tf.compat.v1.GraphDef()
        try:
            graph.ParseFromString(blob)
        except Exception as error:
            raise BackendError("Invalid GraphDef") from error
        if not graph.node:
            raise BackendError("Invalid GraphDef")
        return TensorFlowModel(self._session(graph, inputs, outputs), inputs, outputs)

    def _session(self, graph_def: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Callable[..., Any]:
        """A function of arrays that runs the graph from its inputs to its outputs."""
        present = {node.name for node in graph_def.node}
        for kind, names in (("Input", inputs), ("Output", outputs)):
            for name in names:
                if node_name(name) not in present:
                    raise BackendError(f'{kind} node named "{name}" not found in TF graph.')
        needed = reduced(graph_def, [*inputs, *outputs])
        check_nodes(needed.node, library_of(needed))
        for node in needed.node:
            node.device = ""
        graph = tf.Graph()
        try:
            with graph.as_default(), tf.device(self._device):
                tf.import_graph_def(needed, name="")
            config = tf.compat.v1.ConfigProto(
                intra_op_parallelism_threads=self._threads.intra_op,
                inter_op_parallelism_threads=self._threads.inter_op,
                allow_soft_placement=True,
            )
            config.gpu_options.allow_growth = True
            session = tf.compat.v1.Session(graph=graph, config=config)
            run: Callable[..., Any] = session.make_callable(
                [tensor_name(name) for name in outputs], feed_list=[tensor_name(name) for name in inputs]
            )
        except Exception as error:
            raise BackendError(str(error)) from error
        return run

    def _load_saved_model(self, blob: bytes, inputs: list[str], outputs: list[str]) -> TensorFlowModel:
        with tempfile.TemporaryDirectory(prefix="taskensemble-") as name:
            folder = Path(name)
            tensorflow_saved_model.unpack(blob, folder)
            described = tensorflow_saved_model.check(folder)
            try:
                with tf.device(self._device):
                    loaded = tf.saved_model.load(str(folder))
                    signatures = loaded.signatures
                    served = signatures.get(tensorflow_saved_model.SIGNATURE) or next(iter(signatures.values()))
                    frozen = convert_variables_to_constants_v2(served)
            except Exception as error:
                raise BackendError(str(error)) from error
        arguments = [tensor.name for tensor in frozen.inputs]
        names = sorted(described.outputs)
        fed = [_signature_tensor("Input", name, described.inputs, _by_argument(arguments)) for name in inputs]
        fetched = [
            _signature_tensor("Output", name, described.outputs, dict(zip(names, _output_names(frozen), strict=True)))
            for name in outputs
        ]
        return TensorFlowModel(self._session(frozen.graph.as_graph_def(), fed, fetched), inputs, outputs)


def _by_argument(tensors: Sequence[str]) -> dict[str, str]:
    return {node_name(tensor): tensor for tensor in tensors}


def _output_names(function: Any) -> list[str]:
    return [tensor.name for tensor in function.outputs]


def _signature_tensor(kind: str, name: str, described: Any, tensors: dict[str, str]) -> str:
    """The tensor of a frozen signature behind a name: the argument's own, or that of the SavedModel's outer tensor."""
    for argument, info in described.items():
        if name in (argument, info.name, node_name(info.name)):
            found = tensors.get(argument)
            if found is not None:
                return found
    known = ", ".join(sorted(described))
    raise BackendError(f'{kind} node named "{name}" not found in TF graph. The signature has: {known}')


class TensorFlowModel:
    """A session's callable."""

    stateful = False
    forward = None

    def __init__(self, run: Callable[..., Any], inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._run = run
        self.input_names: Sequence[str] = inputs
        self.output_names: Sequence[str] = outputs

    def run(self, inputs: list[Any], outputs: int) -> Sequence[Any]:
        """Run the graph; the n-th input feeds the n-th input name."""
        if len(inputs) != len(self.input_names):
            raise BackendError(WRONG_INPUTS)
        if outputs != len(self.output_names):
            raise BackendError(WRONG_OUTPUTS)
        produced = self._run(*inputs)
        return [np.asarray(value) for value in produced]
