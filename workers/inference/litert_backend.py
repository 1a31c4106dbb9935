"""The TFLITE backend: LiteRT's interpreter with its built-in operators.

A flatbuffer names its operators by number, and the interpreter knows no operator that reaches files; custom operators would
have to be registered by this process, which registers none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from .arrays import Array, ArrayBackend
from .backend import WRONG_INPUTS, WRONG_OUTPUTS, BackendError, Threads
from .frames import Buffer


def create(device: str, threads: Threads) -> LiteRtBackend:
    """Make LiteRT ready; it computes on the CPU only."""
    if not device.upper().startswith("CPU"):
        raise BackendError("GPU requested but the TFLITE backend computes on the CPU only")
    return LiteRtBackend(threads)


class LiteRtBackend(ArrayBackend):
    """LiteRT on the CPU."""

    def __init__(self, threads: Threads) -> None:
        from importlib.metadata import version

        self.version = version("ai-edge-litert")
        self._threads = threads.intra_op or len(os.sched_getaffinity(0))

    def load_model(
        self,
        blob: Buffer,
        inputs: list[str],  # noqa: ARG002
        outputs: list[str],  # noqa: ARG002
    ) -> LiteRtModel:
        """Load a `.tflite` flatbuffer."""
        try:
            interpreter = Interpreter(model_content=bytes(blob), num_threads=self._threads)
            interpreter.allocate_tensors()
        except Exception as error:
            text = "Failed to load model from buffer"
            detail = "" if blob[4:8] != b"TFL3" else f": {error}"  # no more is to be said of what is no flatbuffer
            raise BackendError(text + detail) from error
        return LiteRtModel(interpreter)


def _as_declared(array: Array, detail: Any) -> Array:
    """An input of another shape than the model's, but of as many elements, in the model's: the original copies bytes alone."""
    signature = [int(size) for size in detail["shape_signature"]]
    declared = tuple(int(size) for size in detail["shape"])
    fits = len(signature) == array.ndim and all(
        size in (-1, given) for size, given in zip(signature, array.shape, strict=True)
    )
    return array if fits or array.size != math.prod(declared) else array.reshape(declared)


class LiteRtModel:
    """An interpreter, resized when an input's shape is another than before."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        # The interpreter keeps tensors, and variables, from one run to the next.
        self.stateful = True
        self.forward = None
        self._inputs = interpreter.get_input_details()
        self._outputs = interpreter.get_output_details()
        # None: what the interpreter has allocated is not known, because a resize failed.
        self._shapes: list[Any] | None = [tuple(int(size) for size in detail["shape"]) for detail in self._inputs]
        self.input_names: Sequence[str] = [detail["name"] for detail in self._inputs]
        self.output_names: Sequence[str] = [detail["name"] for detail in self._outputs]

    def run(self, inputs: list[Any], outputs: int) -> Sequence[Array]:
        """Run the graph; inputs in the order of the model's own."""
        if len(inputs) != len(self._inputs):
            raise BackendError(WRONG_INPUTS)
        if outputs != len(self._outputs):
            raise BackendError(WRONG_OUTPUTS)
        inputs = [_as_declared(array, detail) for array, detail in zip(inputs, self._inputs, strict=True)]
        shapes = [array.shape for array in inputs]
        if shapes != self._shapes:
            self._shapes = None
            for detail, shape, name in zip(self._inputs, shapes, self.input_names, strict=True):
                signature = [int(size) for size in detail["shape_signature"]]
                if len(shape) != len(signature):
                    raise BackendError(f"input {name}: expected {len(signature)} dimensions but was {len(shape)}")
                self._interpreter.resize_tensor_input(detail["index"], shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for detail, array in zip(self._inputs, inputs, strict=True):
            if array.dtype != detail["dtype"] and not (
                array.dtype == object and detail["dtype"] in (np.bytes_, np.object_)
            ):
                raise BackendError(
                    f"input {detail['name']}: expected type {np.dtype(detail['dtype']).name} but was {array.dtype.name}"
                )
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._outputs]
