"""The TORCH backend: TorchScript archives, torch.export programs and TorchScript source."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

# Every torch.load in this process is limited to tensors and plain containers, whatever its caller asked for.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)

import numpy
import torch

from . import torch_archive, torch_export, torch_scripts
from .backend import WRONG_INPUTS, BackendError, Database, Threads
from .frames import BOOL, DOUBLE, FLOAT, INT8, INT16, INT32, INT64, TYPE_NAMES, UINT8, UINT16, Buffer, Dims, Tensor
from .segment import as_file

_DTYPES = {
    FLOAT: torch.float32,
    DOUBLE: torch.float64,
    INT8: torch.int8,
    INT16: torch.int16,
    INT32: torch.int32,
    INT64: torch.int64,
    UINT8: torch.uint8,
    UINT16: torch.uint16,
    BOOL: torch.bool,
}
_NUMPY_DTYPES = {code: torch.empty(0, dtype=dtype).numpy().dtype for code, dtype in _DTYPES.items()}
_CODES = {dtype: code for code, dtype in _NUMPY_DTYPES.items()}
_COPIED_BELOW = 4096
"""Making a view costs more than copying so many bytes."""


def create(device: str, threads: Threads) -> TorchBackend:
    """Make torch ready on CPU or GPU:n; raises BackendError when the GPU is not there."""
    warnings.filterwarnings("ignore")
    if threads.intra_op:
        torch.set_num_threads(threads.intra_op)
    if threads.inter_op:
        torch.set_num_interop_threads(threads.inter_op)
    return TorchBackend(torch_device(device))


def torch_device(device: str) -> torch.device:
    """The torch device of CPU, GPU or GPU:n."""
    kind, _, index = device.upper().partition(":")
    if kind == "CPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendError("GPU requested but Torch couldn't find CUDA")
    number = int(index or 0)
    if number >= torch.cuda.device_count():
        raise BackendError(f"GPU:{number} requested but Torch found only {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", number)


class TorchBackend:
    """torch on one device, without gradients."""

    def __init__(self, device: torch.device) -> None:
        self.version = str(torch.__version__)
        self._device = device
        self._on_cpu = device.type == "cpu"
        self.bytes_of: Callable[[Any], Any] = torch.Tensor.numpy if self._on_cpu else _on_host
        self.placed: Callable[[Any], Any] | None = None if self._on_cpu else self._copied_there
        self._inference = torch.inference_mode()
        self._inference.__enter__()

    def limit_runs(self, milliseconds: int) -> None:
        """torch cannot be interrupted: the module replaces a worker that takes too long."""

    def load_model(
        self,
        blob: Buffer,
        inputs: list[str],  # noqa: ARG002
        outputs: list[str],  # noqa: ARG002
    ) -> TorchModel:
        """Load a TorchScript archive or a `.pt2` program; names are the model's own."""
        with as_file(blob) as path:
            load = torch_export.load if torch_export.is_program(path) else torch_archive.load
            return TorchModel(load(path, self._device))

    def load_script(self, source: str, entry_points: list[str], database: Database) -> torch_scripts.TorchScript:
        """Compile TorchScript source and check its entry points."""
        return torch_scripts.compile_script(source, entry_points, database)

    def native(self, tensor: Tensor) -> torch.Tensor:
        """A torch tensor over the bytes; on a GPU, a copy there."""
        code, dims, blob = tensor
        dtype = _DTYPES.get(code)
        if dtype is None:
            raise BackendError(f"{TYPE_NAMES[code]} tensors are not supported by the TORCH backend")
        value = torch.frombuffer(blob, dtype=dtype).view(dims) if len(blob) else torch.empty(dims, dtype=dtype)
        return value if self._on_cpu else value.to(self._device)

    def reusable(self, code: int, dims: Dims) -> tuple[torch.Tensor, memoryview] | None:
        """A tensor to copy inputs into, and its bytes; for a GPU it lies in pinned memory, which the GPU reads by itself."""
        dtype = _DTYPES.get(code)
        if dtype is None or 0 in dims:
            return None
        try:
            tensor = torch.empty(dims, dtype=dtype, pin_memory=not self._on_cpu)
        except RuntimeError:  # no more memory may be pinned
            return None
        return tensor, memoryview(tensor.numpy().reshape(-1).data).cast("B")

    def _copied_there(self, pinned: torch.Tensor) -> torch.Tensor:
        # Nothing waits for this copy: an output is fetched after it, in the same stream, before the next unit is written here.
        return pinned.to(self._device, non_blocking=True)

    def wire(self, value: torch.Tensor) -> Tensor:
        """Type, dims and bytes of a tensor. Half precision, which the wire has no type for, becomes FLOAT."""
        array: Any
        if not self._on_cpu:
            value = value.cpu()  # that NumPy cannot read a GPU's memory is an expensive exception
        try:
            array = value.numpy() if value.dtype is not torch.float16 else value.float().numpy()
        except (RuntimeError, TypeError):
            array = _plain(value).numpy(force=True)
        code = _CODES.get(array.dtype)
        if code is None:
            raise BackendError(f"Model returned a tensor of the unsupported type {value.dtype}")
        if array.nbytes < _COPIED_BELOW:
            return Tensor(code, array.shape, array.tobytes())
        return Tensor(code, array.shape, memoryview(numpy.ascontiguousarray(array).reshape(-1).data).cast("B"))


def _on_host(value: torch.Tensor) -> Any:
    return value.cpu().numpy()


def _plain(value: torch.Tensor) -> torch.Tensor:
    """A dense tensor of a type that NumPy knows."""
    dense = value if value.layout is torch.strided else value.to_dense()
    return dense.float() if dense.dtype.itemsize == 2 and dense.is_floating_point() else dense


class TorchModel:
    """A loaded model of either format."""

    def __init__(self, loaded: torch_archive.Loaded) -> None:
        self.input_names: Sequence[str] | None = loaded.input_names
        self.output_names: Sequence[str] | None = loaded.output_names
        self.stateful = loaded.stateful
        self._inputs = len(loaded.input_names)
        self._forward: Callable[..., Any] = loaded.forward
        self.forward: Callable[..., Any] | None = None

    def run(self, inputs: list[Any], outputs: int) -> Sequence[torch.Tensor]:
        """Run the model's forward function."""
        if len(inputs) != self._inputs:
            raise BackendError(WRONG_INPUTS)
        result = self._forward(*inputs)
        if outputs == 1 and isinstance(result, torch.Tensor):
            self.forward = self._forward
            return (result,)
        return torch_scripts.tensors_of(result, outputs, "forward")
