"""The client's calls on models."""

from __future__ import annotations

from pathlib import Path

from .arguments import check_type, checked_device, checked_file, gpu_range, names
from .error import RedisRuntimeError
from .execution import ExecutionCalls, gpu_copies, gpu_name, scope
from .resp import Argument
from .session import LOAD_TIMEOUT, reported
from .topology import Command

BACKENDS = ("TF", "TFLITE", "TORCH", "ONNX")

_CHUNK = 511 * 1024 * 1024
"""Bytes: no bulk string may be larger than 512 MiB unless the server says so; larger models travel in pieces."""


class ModelCalls(ExecutionCalls):
    """Models by name.

    With several GPUs there is one copy a GPU, `name.GPU:i`, beside `name` itself on the first.
    """

    @reported
    def set_model(
        self,
        name: str,
        model: bytes,
        backend: str,
        device: str = "CPU",
        batch_size: int = 0,
        min_batch_size: int = 0,
        min_batch_timeout: int = 0,
        tag: str = "",
        inputs: str | list[str] | None = None,
        outputs: str | list[str] | None = None,
    ) -> None:
        """Store a model, which the database loads before this returns.

        Arguments:
            model: the serialized model.
            backend: TORCH, TF, TFLITE or ONNX.
            device: CPU, GPU or GPU:n.
            batch_size: largest number of samples that waiting requests are joined to; 0 joins none.
            min_batch_size: number of samples that a run waits for.
            min_batch_timeout: milliseconds after which a smaller batch runs.
            tag: a text kept with the model.
            inputs, outputs: names of the graph's nodes; for TF only, where they are needed.

        Raises:
            TypeError: an unknown backend, a device that is neither CPU nor GPU, an argument of a wrong type.
            ValueError: inputs or outputs for another backend than TF.
            RedisRuntimeError: batching without a batch size, or the database refuses the model.
        """
        check_type(name, "name", str)
        device = checked_device(device)
        blob = _as_bytes(model)
        arguments = _model_arguments(
            backend, blob, batch_size, min_batch_size, min_batch_timeout, tag, names(inputs), names(outputs)
        )
        self._store_models([(name, device)], arguments)

    @reported
    def set_model_multigpu(
        self,
        name: str,
        model: bytes,
        backend: str,
        first_gpu: int,
        num_gpus: int,
        batch_size: int = 0,
        min_batch_size: int = 0,
        min_batch_timeout: int = 0,
        tag: str = "",
        inputs: str | list[str] | None = None,
        outputs: str | list[str] | None = None,
    ) -> None:
        """Store a model on `num_gpus` GPUs from `first_gpu` on; otherwise as `set_model`."""
        check_type(name, "name", str)
        gpus = gpu_range(first_gpu, num_gpus)
        blob = _as_bytes(model)
        arguments = _model_arguments(
            backend, blob, batch_size, min_batch_size, min_batch_timeout, tag, names(inputs), names(outputs)
        )
        self._store_models(gpu_copies(name, gpus), arguments)

    @reported
    def set_model_from_file(
        self,
        name: str,
        model_file: str,
        backend: str,
        device: str = "CPU",
        batch_size: int = 0,
        min_batch_size: int = 0,
        min_batch_timeout: int = 0,
        tag: str = "",
        inputs: str | list[str] | None = None,
        outputs: str | list[str] | None = None,
    ) -> None:
        """Store the model in a file; otherwise as `set_model`.

        Raises:
            FileNotFoundError: there is no such file.
        """
        blob = Path(checked_file(model_file, "model_file")).read_bytes()
        self.set_model(name, blob, backend, device, batch_size, min_batch_size, min_batch_timeout, tag, inputs, outputs)

    @reported
    def set_model_from_file_multigpu(
        self,
        name: str,
        model_file: str,
        backend: str,
        first_gpu: int,
        num_gpus: int,
        batch_size: int = 0,
        min_batch_size: int = 0,
        min_batch_timeout: int = 0,
        tag: str = "",
        inputs: str | list[str] | None = None,
        outputs: str | list[str] | None = None,
    ) -> None:
        """Store the model in a file on several GPUs; otherwise as `set_model_multigpu`."""
        blob = Path(checked_file(model_file, "model_file")).read_bytes()
        self.set_model_multigpu(
            name,
            blob,
            backend,
            first_gpu,
            num_gpus,
            batch_size,
            min_batch_size,
            min_batch_timeout,
            tag,
            inputs,
            outputs,
        )

    def _store_models(self, copies: list[tuple[str, str]], arguments: _ModelArguments) -> None:
        head, tail = arguments
        self._calls(
            [
                Command(key, (b"AI.MODELSTORE", key, head, device, *tail), LOAD_TIMEOUT)
                for name, device in copies
                for key in self._placed(self._write_key("model", name))
            ]
        )

    @reported
    def get_model(self, name: str) -> bytes:
        """Fetch a model's bytes as they were stored.

        Raises:
            RedisRuntimeError: there is no such model.
        """
        check_type(name, "name", str)
        key = self._placed(self._read_key("model", name))[0]
        reply = self._call(key, b"AI.MODELGET", key, b"BLOB")
        return b"".join(reply) if isinstance(reply, list) else bytes(reply)

    @reported
    def run_model(
        self, name: str, inputs: str | list[str] | None = None, outputs: str | list[str] | None = None
    ) -> None:
        """Run a model on stored tensors.

        Arguments:
            inputs: names of tensors of the data source, in the model's order.
            outputs: names of one's own that the results get.

        Raises:
            RedisRuntimeError: no such model or tensor, or the model failed.
            RedisTimeoutError: the request waited longer than SR_MODEL_TIMEOUT (milliseconds).
        """
        check_type(name, "name", str)
        self._run_model(name, names(inputs), names(outputs))

    @reported
    def run_model_multigpu(
        self,
        name: str,
        offset: int,
        first_gpu: int,
        num_gpus: int,
        inputs: str | list[str] | None = None,
        outputs: str | list[str] | None = None,
    ) -> None:
        """Run a model on one of its GPUs, chosen by the caller's number.

        Arguments:
            offset: the caller's rank; callers with different ranks take different GPUs in turn.
        """
        check_type(name, "name", str)
        self._run_model(gpu_name(name, offset, first_gpu, num_gpus), names(inputs), names(outputs))

    def _run_model(self, name: str, inputs: list[str], outputs: list[str]) -> None:
        def command(model: bytes, sources: list[bytes], targets: list[bytes]) -> tuple[Argument, ...]:
            return (b"AI.MODELEXECUTE", model, *scope(b"INPUTS", sources), *scope(b"OUTPUTS", targets))

        self._execute(self._read_key("model", name), inputs, outputs, command)

    @reported
    def delete_model(self, name: str) -> None:
        """Delete a model.

        Raises:
            RedisRuntimeError: there is none of that name.
        """
        check_type(name, "name", str)
        self._delete(b"AI.MODELDEL", [name])

    @reported
    def delete_model_multigpu(self, name: str, first_gpu: int, num_gpus: int) -> None:
        """Delete a model and its copies on several GPUs."""
        check_type(name, "name", str)
        self._delete(b"AI.MODELDEL", [copy for copy, _ in gpu_copies(name, gpu_range(first_gpu, num_gpus))])


_ModelArguments = tuple[str, list[Argument]]


def _model_arguments(
    backend: str,
    blob: bytes,
    batch_size: int,
    min_batch_size: int,
    min_batch_timeout: int,
    tag: str,
    inputs: list[str],
    outputs: list[str],
) -> _ModelArguments:
    """The backend, and what follows the device in AI.MODELSTORE."""
    check_type(backend, "backend", str)
    check_type(batch_size, "batch_size", int)
    check_type(min_batch_size, "min_batch_size", int)
    check_type(min_batch_timeout, "min_batch_timeout", int)
    check_type(tag, "tag", str)
    backend = backend.upper()
    if backend not in BACKENDS:
        raise TypeError(f"Backend type {backend} unsupported: use one of {', '.join(BACKENDS)}")
    if backend != "TF" and (inputs or outputs):
        raise ValueError(f"INPUTS and OUTPUTS in the model set command are only valid for TF models, not for {backend}")
    if not batch_size and (min_batch_size or min_batch_timeout):
        raise RedisRuntimeError("batch_size must be non-zero if min_batch_size or min_batch_timeout is used")
    if not min_batch_size and min_batch_timeout:
        raise RedisRuntimeError("min_batch_size must be non-zero if min_batch_timeout is used")
    arguments: list[Argument] = []
    if tag:
        arguments += [b"TAG", tag]
    for word, value in (
        (b"BATCHSIZE", batch_size),
        (b"MINBATCHSIZE", min_batch_size),
        (b"MINBATCHTIMEOUT", min_batch_timeout),
    ):
        if value:
            arguments += [word, value]
    for word, nodes in ((b"INPUTS", inputs), (b"OUTPUTS", outputs)):
        if nodes:
            arguments += [word, len(nodes), *nodes]
    whole = memoryview(blob)
    pieces = [whole[start : start + _CHUNK] for start in range(0, len(whole), _CHUNK)] or [whole]
    return backend, [*arguments, b"BLOB", *pieces]


def _as_bytes(model: bytes | str) -> bytes:
    check_type(model, "model", (bytes, bytearray, memoryview, str))
    return model.encode() if isinstance(model, str) else bytes(model)
