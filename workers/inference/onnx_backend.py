"""The ONNX backend: onnxruntime, ONNX-ML operators included."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

from .arrays import Array, ArrayBackend, native_array, wire_array
from .backend import WRONG_INPUTS, WRONG_OUTPUTS, BackendError, Threads
from .frames import STRING, Buffer, Tensor
from .onnx_file import check_model

_PYTHONS_OWN = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
"""What the Python binding puts in front of the library's text, which clients of other servers know without it."""
TERMINATED = "Exiting due to terminate flag being set to true"
_ERRORS_ONLY = 3
_CUDA = "CUDAExecutionProvider"


def create(device: str, threads: Threads) -> OnnxBackend:
    """Make onnxruntime ready on CPU or GPU:n; raises BackendError when it was not built for the GPU."""
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    kind, _, index = device.upper().partition(":")
    if kind == "CPU":
        return OnnxBackend(["CPUExecutionProvider"], threads)
    if _CUDA not in onnxruntime.get_available_providers():
        raise BackendError("GPU requested but ONNX Runtime couldn't find CUDA: pip install onnxruntime-gpu")
    return OnnxBackend([(_CUDA, {"device_id": int(index or 0)}), "CPUExecutionProvider"], threads, gpu=True)


class OnnxBackend(ArrayBackend):
    """onnxruntime with one list of execution providers."""

    def __init__(self, providers: list[Any], threads: Threads, *, gpu: bool = False) -> None:
        self.version = str(onnxruntime.__version__)
        self._gpu = gpu
        self._providers = providers
        self._threads = threads
        self._overdue = _Overdue()

    def limit_runs(self, milliseconds: int) -> None:
        """End runs that take longer, by onnxruntime's terminate flag."""
        self._overdue.limit = milliseconds / 1000

    def load_model(
        self,
        blob: Buffer,
        inputs: list[str],  # noqa: ARG002
        outputs: list[str],  # noqa: ARG002
    ) -> OnnxModel:
        """Load an ONNX model; it must hold its weights itself."""
        blob = bytes(blob)
        check_model(blob)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads.intra_op
        options.inter_op_num_threads = self._threads.inter_op
        # A model file may carry session settings of its own; they are the operator's business.
        options.add_session_config_entry("session.load_config_from_model", "0")
        try:
            session = onnxruntime.InferenceSession(blob, options, providers=self._providers)
        except Exception as error:
            raise BackendError(_PYTHONS_OWN.sub("", str(error))) from error
        if self._gpu and _CUDA not in session.get_providers():
            # onnxruntime would go on with the CPU, and say so in a log alone.
            raise BackendError("GPU requested but ONNX Runtime couldn't start CUDA: see the inference worker's log")
        return OnnxModel(session, self._overdue)

    def native(self, tensor: Tensor) -> Array:
        """A NumPy array over the bytes."""
        array = native_array(tensor)
        if tensor.code == STRING:
            return np.array([value.decode("utf-8") for value in array.flat], dtype=object).reshape(array.shape)
        return array

    def wire(self, value: Any) -> Tensor:
        """Type, dims and bytes."""
        if not isinstance(value, np.ndarray):
            raise BackendError("Model returned a value that is no tensor: only tensors can be stored")
        return wire_array(value)


class _Overdue:
    """Raises onnxruntime's terminate flag on a run that outlasts the limit.

    A thread looks at the current run a few dozen times a limit: a timer for each run would cost more than a small model.
    """

    def __init__(self) -> None:
        self.limit = 0.0
        """Seconds; 0: none."""
        self._run: tuple[float, Any] | None = None
        self._thread: threading.Thread | None = None

    def watch(self, options: Any) -> None:
        """A run with these RunOptions begins."""
        if not self.limit:
            return
        self._run = (time.monotonic() + self.limit, options)
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="overdue runs", daemon=True)
            self._thread.start()

    def ended(self) -> None:
        """The run has ended."""
        self._run = None

    def _look(self) -> None:
        while True:
            time.sleep(max(0.01, self.limit / 50))
            run = self._run
            if run is not None and time.monotonic() > run[0]:
                run[1].terminate = True


class OnnxModel:
    """A session."""

    stateful = False
    forward = None

    def __init__(self, session: onnxruntime.InferenceSession, overdue: _Overdue) -> None:
        self._session = session
        self._overdue = overdue
        self.input_names: Sequence[str] = [value.name for value in session.get_inputs()]
        self.output_names: Sequence[str] = [value.name for value in session.get_outputs()]

    def run(self, inputs: list[Any], outputs: int) -> Sequence[Any]:
        """Run the graph; inputs in the order of the model's own."""
        if len(inputs) != len(self.input_names):
            raise BackendError(WRONG_INPUTS)
        if outputs != len(self.output_names):
            raise BackendError(WRONG_OUTPUTS)
        fed = dict(zip(self.input_names, inputs, strict=True))
        options = onnxruntime.RunOptions()
        self._overdue.watch(options)
        try:
            produced: Sequence[Any] = self._session.run(None, fed, options)
        except Exception as error:
            text = TERMINATED if options.terminate else _PYTHONS_OWN.sub("", str(error))
            raise BackendError(text) from error
        finally:
            self._overdue.ended()
        return produced
