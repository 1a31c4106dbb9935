"""What a backend must offer, and which ones there are.

A backend turns a blob into a model and runs it. It keeps values in its own arrays: `native` makes one from a tensor of the
wire without copying where it can, `wire` the other way round, so that an output which only the next step of a graph reads
never becomes bytes.

No backend may load a file that can run arbitrary Python, or that reads or writes files.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from .frames import Buffer, Tensor

WRONG_INPUTS = "Number of keys given as INPUTS here does not match model definition"
WRONG_OUTPUTS = "Number of keys given as OUTPUTS here does not match model definition"


class BackendError(Exception):
    """A model, script or run that the backend refuses. The text reaches the caller as it is."""


class Threads(NamedTuple):
    """Threads of a backend; 0: the backend's own choice."""

    intra_op: int = 0
    inter_op: int = 0


class Model(Protocol):
    """A loaded model."""

    input_names: Sequence[str] | None
    """None: their number is unknown until it runs."""
    output_names: Sequence[str] | None
    stateful: bool
    """Whether it keeps something from one run to the next; then it is never shared."""
    forward: Callable[..., Any] | None
    """The program itself: takes native values and returns its only output. None: `run` is the one way to call it."""

    def run(self, inputs: list[Any], outputs: int) -> Sequence[Any]:
        """Run on native values; the result has `outputs` native values."""
        ...


class Script(Protocol):
    """A compiled script."""

    def run(
        self,
        function: str,
        inputs: list[Any],
        outputs: int,
        *,
        entry_point: bool,
        list_at: int,
        keys: list[str],
        args: list[str],
    ) -> Sequence[Any]:
        """Call a function on native values; the result has `outputs` native values."""
        ...


class Database(Protocol):
    """What scripts may ask of the database they are stored in."""

    def execute(self, command: str, args: Sequence[str]) -> Any:
        """Run a command and return its reply; strings are decoded."""
        ...

    def model(self, name: str) -> Callable[[list[Any], int], Sequence[Any]]:
        """How to run a stored model on native values; the result has as many native values as the second argument says."""
        ...


class Backend(Protocol):
    """One backend on one device. A worker process makes one."""

    version: str
    bytes_of: Callable[[Any], Any] | None
    """Makes an object with the buffer protocol of a native value; None: native values have one."""
    placed: Callable[[Any], Any] | None
    """Makes a native value of a reusable array, in the device's own memory; None: the array is one."""

    def limit_runs(self, milliseconds: int) -> None:
        """End runs that take longer, where the backend can."""
        ...

    def load_model(self, blob: Buffer, inputs: list[str], outputs: list[str]) -> Model:
        """Load a model; raises BackendError for one that is broken or refused."""
        ...

    def load_script(self, source: str, entry_points: list[str], database: Database) -> Script:
        """Compile a script; raises BackendError."""
        ...

    def native(self, tensor: Tensor) -> Any:
        """The backend's own array over a tensor's bytes."""
        ...

    def reusable(self, code: int, dims: tuple[int, ...]) -> tuple[Any, memoryview] | None:
        """An array that inputs of one type and shape can be copied into again and again, and its bytes; None: no such."""
        ...

    def wire(self, value: Any) -> Tensor:
        """A native value as type, dims and contiguous bytes."""
        ...


class BackendKind(NamedTuple):
    """A backend that may be installed."""

    module: str
    """Its file in this package."""
    distributions: tuple[str, ...]
    """Any of these wheels brings it."""
    gpu_distributions: tuple[str, ...]
    """Those of them that can use a GPU; torch's tells it by its version."""
    extra: str
    """The extra of taskensemble that installs it."""


KINDS = {
    "TORCH": BackendKind("torch_backend", ("torch",), ("torch",), "torch"),
    "TF": BackendKind("tensorflow_backend", ("tensorflow-cpu", "tensorflow"), ("tensorflow",), "tensorflow"),
    "TFLITE": BackendKind("litert_backend", ("ai-edge-litert",), (), "litert"),
    "ONNX": BackendKind("onnx_backend", ("onnxruntime", "onnxruntime-gpu"), ("onnxruntime-gpu",), "onnx"),
}


def installed_version(name: str) -> str | None:
    """Version of the wheel that carries a backend; None: none is installed. Imports nothing."""
    return _first_version(KINDS[name].distributions)


def can_use_gpus(name: str) -> bool:
    """Whether the installed wheel of a backend was built for GPUs. Imports nothing."""
    version = _first_version(KINDS[name].gpu_distributions)
    return version is not None and not version.endswith("+cpu")


def _first_version(distributions: Sequence[str]) -> str | None:
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def missing_text(name: str) -> str:
    """What to install so that a backend is there."""
    kind = KINDS[name]
    return f"backend {name} is not installed: pip install 'taskensemble[{kind.extra}]' (or {kind.distributions[0]})"


def create_backend(name: str, device: str, threads: Threads) -> Backend:
    """Import a backend and make it ready on a device.

    Arguments:
        name: TORCH, TF, TFLITE or ONNX.
        device: CPU or GPU:n.
    Raises:
        BackendError: its wheel is missing, or the device is.
    """
    try:
        module = importlib.import_module(f"{__package__}.{KINDS[name].module}")
    except ImportError as error:
        raise BackendError(f"{missing_text(name)} ({error})") from error
    backend: Backend = module.create(device, threads)
    return backend
