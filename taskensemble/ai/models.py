"""The client's calls on models and scripts, on one server or on every shard, for one device or several GPUs."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .arguments import check_type, checked_device, checked_file, gpu_range, names
from .datasets import DatasetCalls
from .error import RedisRuntimeError
from .resp import Argument, Reply, ReplyError
from .session import LOAD_TIMEOUT, ran, reported
from .tensors import tensor_get, tensor_reset
from .topology import Cluster, Command

BACKENDS = ("TF", "TFLITE", "TORCH", "ONNX")

_CHUNK = 511 * 1024 * 1024
"""Bytes: no bulk string may be larger than 512 MiB unless the server says so; larger models travel in pieces."""

_NO_LIMIT = 10.0 * 365 * 86400
"""Seconds: an execution is bounded by the database's queue, not by the client."""


class ModelCalls(DatasetCalls):
    """Models and scripts by name.

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
        self._store_models(_gpu_copies(name, gpus), arguments)

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
        self._run_model(_gpu_name(name, offset, first_gpu, num_gpus), names(inputs), names(outputs))

    def _run_model(self, name: str, inputs: list[str], outputs: list[str]) -> None:
        def command(model: bytes, sources: list[bytes], targets: list[bytes]) -> tuple[Argument, ...]:
            return (b"AI.MODELEXECUTE", model, *_scope(b"INPUTS", sources), *_scope(b"OUTPUTS", targets))

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
        self._delete(b"AI.MODELDEL", [copy for copy, _ in _gpu_copies(name, gpu_range(first_gpu, num_gpus))])

    @reported
    def model_exists(self, name: str) -> bool:
        """Whether there is a model or script of that name."""
        check_type(name, "name", str)
        return self._exists(self._placed(self._read_key("model", name))[0])

    @reported
    def poll_model(self, name: str, poll_frequency_ms: int, num_tries: int) -> bool:
        """Wait until there is a model or script of that name; as `poll_tensor`."""
        check_type(name, "name", str)
        key = self._placed(self._read_key("model", name))[0]
        return self._wait_for(lambda: self._exists(key), poll_frequency_ms, num_tries)

    @reported
    def set_function(self, name: str, function: Callable[..., Any], device: str = "CPU") -> None:
        """Store a Python function as a script of TorchScript.

        Arguments:
            function: takes and returns tensors; its source must be at hand, and TorchScript must understand it.
            device: CPU, GPU or GPU:n.

        Raises:
            TypeError: it cannot be called.
            RedisRuntimeError: the database refuses the source.
        """
        check_type(name, "name", str)
        device = checked_device(device)
        self._store_scripts([(name, device)], _source_of(function))

    @reported
    def set_function_multigpu(self, name: str, function: Callable[..., Any], first_gpu: int, num_gpus: int) -> None:
        """Store a Python function as a script on several GPUs; otherwise as `set_function`."""
        check_type(name, "name", str)
        gpus = gpu_range(first_gpu, num_gpus)
        self._store_scripts(_gpu_copies(name, gpus), _source_of(function))

    @reported
    def set_script(self, name: str, script: str, device: str = "CPU") -> None:
        """Store TorchScript source, any of whose functions can then be run.

        Raises:
            RedisRuntimeError: the database refuses the source.
        """
        check_type(name, "name", str)
        check_type(script, "script", str)
        self._store_scripts([(name, checked_device(device))], script)

    @reported
    def set_script_multigpu(self, name: str, script: str, first_gpu: int, num_gpus: int) -> None:
        """Store TorchScript source on several GPUs; otherwise as `set_script`."""
        check_type(name, "name", str)
        check_type(script, "script", str)
        self._store_scripts(_gpu_copies(name, gpu_range(first_gpu, num_gpus)), script)

    @reported
    def set_script_from_file(self, name: str, file: str, device: str = "CPU") -> None:
        """Store the TorchScript source in a file; otherwise as `set_script`.

        Raises:
            FileNotFoundError: there is no such file.
        """
        check_type(name, "name", str)
        device = checked_device(device)
        self._store_scripts([(name, device)], Path(checked_file(file, "file")).read_text())

    @reported
    def set_script_from_file_multigpu(self, name: str, file: str, first_gpu: int, num_gpus: int) -> None:
        """Store the TorchScript source in a file on several GPUs; otherwise as `set_script_multigpu`."""
        check_type(name, "name", str)
        gpus = gpu_range(first_gpu, num_gpus)
        self._store_scripts(_gpu_copies(name, gpus), Path(checked_file(file, "file")).read_text())

    def _store_scripts(self, copies: list[tuple[str, str]], source: str) -> None:
        self._calls(
            [
                Command(key, (b"AI.SCRIPTSET", key, device, b"SOURCE", source), LOAD_TIMEOUT)
                for name, device in copies
                for key in self._placed(self._write_key("model", name))
            ]
        )

    @reported
    def get_script(self, name: str) -> str:
        """Fetch a script's source.

        Raises:
            RedisRuntimeError: there is no such script.
        """
        check_type(name, "name", str)
        key = self._placed(self._read_key("model", name))[0]
        return bytes(self._call(key, b"AI.SCRIPTGET", key, b"SOURCE")).decode()

    @reported
    def run_script(self, name: str, fn_name: str, inputs: str | list[str], outputs: str | list[str]) -> None:
        """Run a function of a script on stored tensors.

        Arguments:
            inputs: names of tensors of the data source: the function's arguments.
            outputs: names of one's own that the results get.

        Raises:
            RedisRuntimeError: no such script, function or tensor, or the function failed.
            RedisTimeoutError: the request waited longer than SR_MODEL_TIMEOUT (milliseconds).
        """
        check_type(name, "name", str)
        self._run_script(name, fn_name, names(inputs), names(outputs))

    @reported
    def run_script_multigpu(
        self,
        name: str,
        fn_name: str,
        inputs: str | list[str],
        outputs: str | list[str],
        offset: int,
        first_gpu: int,
        num_gpus: int,
    ) -> None:
        """Run a function of a script on one of its GPUs; as `run_model_multigpu`."""
        check_type(name, "name", str)
        self._run_script(_gpu_name(name, offset, first_gpu, num_gpus), fn_name, names(inputs), names(outputs))

    def _run_script(self, name: str, fn_name: str, inputs: list[str], outputs: list[str]) -> None:
        check_type(fn_name, "fn_name", str)

        def command(script: bytes, sources: list[bytes], targets: list[bytes]) -> tuple[Argument, ...]:
            scopes = (*_scope(b"INPUTS", sources), *_scope(b"OUTPUTS", targets))
            return (b"AI.SCRIPTEXECUTE", script, fn_name, *scopes)

        self._execute(self._read_key("model", name), inputs, outputs, command)

    @reported
    def delete_script(self, name: str) -> None:
        """Delete a script.

        Raises:
            RedisRuntimeError: there is none of that name.
        """
        check_type(name, "name", str)
        self._delete(b"AI.SCRIPTDEL", [name])

    @reported
    def delete_script_multigpu(self, name: str, first_gpu: int, num_gpus: int) -> None:
        """Delete a script and its copies on several GPUs."""
        check_type(name, "name", str)
        self._delete(b"AI.SCRIPTDEL", [copy for copy, _ in _gpu_copies(name, gpu_range(first_gpu, num_gpus))])

    def _delete(self, command: bytes, copies: list[str]) -> None:
        keys = [key for name in copies for key in self._placed(self._read_key("model", name))]
        self._calls([Command(key, (command, key)) for key in keys])

    def _placed(self, key: bytes) -> list[bytes]:
        """The keys of a model's copies: its own, or on a cluster one a shard."""
        if not self._topology.clustered:
            return [key]
        return [b"{" + tag + b"}." + key for tag in self._topology.tags()]

    def _execute(
        self,
        model: bytes,
        inputs: list[str],
        outputs: list[str],
        command: Callable[[bytes, list[bytes], list[bytes]], tuple[Argument, ...]],
    ) -> None:
        sources = [self._read_key("tensor", name) for name in inputs]
        targets = [self._write_key("tensor", name) for name in outputs]
        if isinstance(self._topology, Cluster):
            self._execute_on_shard(self._topology.nearest_tag(sources), model, sources, targets, command)
            return
        arguments = command(model, sources, targets)
        ran(self._call(model, *arguments, b"TIMEOUT", self._model_timeout, timeout=_NO_LIMIT))

    def _execute_on_shard(
        self,
        tag: bytes,
        model: bytes,
        sources: list[bytes],
        targets: list[bytes],
        command: Callable[[bytes, list[bytes], list[bytes]], tuple[Argument, ...]],
    ) -> None:
        """Run on the shard of a tag although the tensors are anywhere: as a graph, in which they have names of its own."""
        home = b"{" + tag + b"}"
        local_sources = [b"%b.in.%d" % (home, i) for i in range(len(sources))]
        local_targets = [b"%b.out.%d" % (home, i) for i in range(len(targets))]
        tensors = self._calls([tensor_get(key) for key in sources])
        steps: list[tuple[Argument, ...]] = [
            *(tensor_reset(key, reply) for key, reply in zip(local_sources, tensors, strict=True)),
            command(home + b"." + model, local_sources, local_targets),
            *(tensor_get(key).arguments for key in local_targets),
        ]
        graph = [part for step in steps for part in (b"|>", *step)]
        head = (b"AI.DAGEXECUTE", b"ROUTING", home, b"TIMEOUT", self._model_timeout)
        replies: Reply = self._call(home, *head, *graph, timeout=_NO_LIMIT)
        ran(replies)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise reply
        results = replies[len(sources) + 1 :]
        self._calls([Command(key, tensor_reset(key, reply)) for key, reply in zip(targets, results, strict=True)])


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


def _scope(word: bytes, keys: list[bytes]) -> tuple[Argument, ...]:
    return (word, len(keys), *keys)


def _source_of(function: Callable[..., Any]) -> str:
    if not callable(function):
        raise TypeError(f"Argument provided for function, {type(function)}, is not callable")
    return textwrap.dedent(inspect.getsource(function))


def _gpu_copies(name: str, gpus: range) -> list[tuple[str, str]]:
    """Names and devices of a model's copies; the plain name comes last, on the first GPU."""
    return [*((f"{name}.GPU:{gpu}", f"GPU:{gpu}") for gpu in gpus), (name, f"GPU:{gpus.start}")]


def _gpu_name(name: str, offset: int, first_gpu: int, num_gpus: int) -> str:
    check_type(offset, "offset", int)
    gpus = gpu_range(first_gpu, num_gpus)
    return f"{name}.GPU:{gpus[offset % num_gpus]}"
