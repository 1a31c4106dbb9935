"""ML assets: models, scripts and functions that are in the database before a member's program starts."""

from __future__ import annotations

import ast
import inspect
import io
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from taskensemble.errors import InputError, InputTypeError, UnsupportedError

BACKENDS = {
    "TF": "TF",
    "TFLITE": "TFLITE",
    "TF-LITE": "TFLITE",
    "TF_LITE": "TFLITE",
    "TORCH": "TORCH",
    "PT": "TORCH",
    "ONNX": "ONNX",
}


class Asset:
    """What an ML model and a script have in common: a key, content in memory or in a file, and devices.

    Attributes:
        name: the key it is stored under.
        file: where the content is, when it was given as a file.
        device: CPU, GPU or GPU:n.
        devices_per_node: on how many devices it is stored.
        first_device: the number of the first of them.
    """

    def __init__(
        self, name: str, file: str | os.PathLike[str] | None, device: str, devices_per_node: int, first_device: int
    ) -> None:
        if not isinstance(name, str):
            raise InputTypeError(f"name: {name!r} is a {type(name).__name__}; the key of an asset is a string")
        if not name:
            raise InputError("name: the key of an asset cannot be empty")
        self.name = name
        self.file = _existing_file(file)
        self.device = _check_device(device)
        self.devices_per_node = _count("devices_per_node", devices_per_node, least=1)
        self.first_device = _count("first_device", first_device, least=0)
        if self.device.upper() == "CPU":
            if devices_per_node > 1:
                raise UnsupportedError("Cannot set devices_per_node>1 if CPU is specified under devices")
            if first_device > 0:
                raise UnsupportedError("Cannot set first_device>0 if CPU is specified under devices")
        elif ":" in self.device and devices_per_node > 1:
            raise InputError(
                f"Cannot set devices_per_node>1 if a device numeral is specified: device={device!r}, "
                f"devices_per_node={devices_per_node}; give device='GPU' and first_device"
            )

    @property
    def content(self) -> bytes | None:
        """The bytes given in memory; None: they are in `file`."""
        raise NotImplementedError

    @property
    def is_file(self) -> bool:
        """Whether the content is in a file."""
        return self.content is None

    @property
    def devices(self) -> list[str]:
        """The devices it is stored on."""
        if self.device.upper() == "GPU" and self.devices_per_node > 1:
            return [
                f"{self.device}:{number}"
                for number in range(self.first_device, self.first_device + self.devices_per_node)
            ]
        return [self.device]

    def _device_lines(self) -> list[str]:
        several = "s" if self.devices_per_node > 1 else ""
        lines = [f"Devices: {self.devices_per_node} {self.device}{several} per node"]
        if self.first_device:
            lines.append(f"First_device: {self.first_device}")
        return lines


class MLModel(Asset):
    """An ML model: TensorFlow, TensorFlow Lite, TorchScript or ONNX.

    Args:
        name: the key it is stored under.
        backend: TF, TFLITE (TF-LITE, TF_LITE), TORCH (PT) or ONNX, in any case.
        model: the serialized model, in memory. One of `model` and `model_file` is given.
        model_file: path of the serialized model.
        device: CPU, GPU, or GPU:n.
        devices_per_node: GPUs of a node that it is stored on.
        first_device: number of the first of them.
        batch_size: most requests that are run at once; 0: each on its own.
        min_batch_size: requests that a batch waits for.
        min_batch_timeout: milliseconds that it waits at most.
        tag: text stored with the model.
        inputs: names of the input nodes (TensorFlow only).
        outputs: names of the output nodes (TensorFlow only).

    Raises:
        InputError: an unknown backend or device, a negative number, or not exactly one of `model` and `model_file`.
        InputTypeError: a value of a wrong type.
        FileNotFoundError: `model_file` is not there.
        UnsupportedError: several devices on a CPU.
    """

    def __init__(
        self,
        name: str,
        backend: str,
        model: bytes | None = None,
        model_file: str | os.PathLike[str] | None = None,
        device: str = "CPU",
        devices_per_node: int = 1,
        first_device: int = 0,
        batch_size: int = 0,
        min_batch_size: int = 0,
        min_batch_timeout: int = 0,
        tag: str = "",
        inputs: str | Sequence[str] | None = None,
        outputs: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, model_file, device, devices_per_node, first_device)
        self.backend = _check_backend(backend)
        self.model = _model_bytes(model)
        if (self.model is None) == (self.file is None):
            given = "both are given" if self.model is not None else "neither is given"
            raise InputError(
                f"ML model {name!r}: one of model (in memory) and model_path (a file) must be provided; {given}"
            )
        self.batch_size = _count("batch_size", batch_size, least=0)
        self.min_batch_size = _count("min_batch_size", min_batch_size, least=0)
        self.min_batch_timeout = _count("min_batch_timeout", min_batch_timeout, least=0)
        if self.min_batch_size > max(self.batch_size, 0) and self.min_batch_size > 1:
            raise InputError(
                f"ML model {name!r}: min_batch_size={min_batch_size} is more than batch_size={batch_size}; a batch could never "
                "be full enough"
            )
        if self.min_batch_timeout and not self.min_batch_size:
            raise InputError(
                f"ML model {name!r}: min_batch_timeout={min_batch_timeout} has no effect without min_batch_size; give both"
            )
        if not isinstance(tag, str):
            raise InputTypeError(f"tag: {tag!r} is a {type(tag).__name__}; give text")
        self.tag = tag
        self.inputs = _node_names("inputs", inputs)
        self.outputs = _node_names("outputs", outputs)

    @property
    def content(self) -> bytes | None:
        """The serialized model, where it was given as bytes; None: it is in the file."""
        return self.model

    @property
    def func(self) -> bytes | None:
        """The bytes given in memory, under the name that scripts use."""
        return self.model

    def __str__(self) -> str:
        lines = [f"Name: {self.name}", "Model stored in memory" if self.file is None else f"File path: {self.file}"]
        lines += [*self._device_lines(), f"Backend: {self.backend}"]
        told = {
            "Batch size": self.batch_size,
            "Min batch size": self.min_batch_size,
            "Min batch time out": self.min_batch_timeout,
            "Tag": self.tag,
            "Inputs": self.inputs,
            "Outputs": self.outputs,
        }
        lines += [f"{label}: {value}" for label, value in told.items() if value]
        return "\n".join(lines) + "\n"


class Script(Asset):
    """TorchScript code, or functions of it.

    Args:
        name: the key it is stored under.
        script: the code, in memory. One of `script` and `script_path` is given.
        script_path: path of the code.
        device, devices_per_node, first_device: as for an ML model.

    Raises:
        InputError, InputTypeError, FileNotFoundError, UnsupportedError: as for an ML model.
    """

    def __init__(
        self,
        name: str,
        script: str | None = None,
        script_path: str | os.PathLike[str] | None = None,
        device: str = "CPU",
        devices_per_node: int = 1,
        first_device: int = 0,
    ) -> None:
        super().__init__(name, script_path, device, devices_per_node, first_device)
        if isinstance(script, bytes):
            script = script.decode("utf-8")
        if script is not None and not isinstance(script, str):
            raise InputTypeError(
                f"script {name!r}: {script!r} is a {type(script).__name__}; give the code as text, or use add_function"
            )
        self.script = script or None
        if (self.script is None) == (self.file is None):
            given = "both are given" if self.script is not None else "neither is given"
            raise InputError(
                f"script {name!r}: one of script (text) and script_path (a file) must be provided; {given}"
            )

    @property
    def content(self) -> bytes | None:
        """The script's text in UTF-8, where it was given as text; None: it is in the file."""
        return None if self.script is None else self.script.encode("utf-8")

    @property
    def func(self) -> str | None:
        """The code given in memory."""
        return self.script

    def __str__(self) -> str:
        lines = [f"Name: {self.name}", f"Func: {self.script}" if self.file is None else f"File path: {self.file}"]
        return "\n".join([*lines, *self._device_lines()]) + "\n"


def function_source(name: str, function: object) -> str:
    """The TorchScript code of a function: its text, the source of a Python function, or the code of a scripted one.

    Decorators are left out, and the source of a nested function is dedented. What it uses from outside itself is not there.

    Raises:
        InputError: the source cannot be found, or is a lambda's.
        InputTypeError: it is no function.
    """
    if isinstance(function, str):
        if not function.strip():
            raise InputError(f"function {name!r}: the text is empty")
        return function
    code = getattr(function, "code", None)
    if isinstance(code, str) and hasattr(function, "graph"):
        return code
    if not inspect.isfunction(function):
        raise InputTypeError(
            f"function {name!r}: {function!r} is a {type(function).__name__}; give a Python function, its text, or a "
            "torch.jit.ScriptFunction"
        )
    if function.__name__ == "<lambda>":
        raise InputError(f"function {name!r} is a lambda, which cannot be scripted; define it with def")
    return _python_source(name, function)


def _python_source(name: str, function: Callable[..., Any]) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError) as error:
        raise InputError(f"function {name!r}: its source cannot be found ({error}); give it as text") from None
    definition = ast.parse(source).body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise InputError(f"function {name!r}: its source is no plain def; give it as text")
    return "".join(source.splitlines(keepends=True)[definition.lineno - 1 :])


def _existing_file(file: str | os.PathLike[str] | None) -> Path | None:
    if file is None or file == "":
        return None
    if not isinstance(file, (str, os.PathLike)):
        raise InputTypeError(f"{file!r} is a {type(file).__name__}; the path of an asset is a string")
    path = Path(file).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"the asset's file {str(file)!r} is not there (looked for {path})")
    return path


def _check_device(device: object) -> str:
    if not isinstance(device, str):
        raise InputTypeError(f"device: {device!r} is a {type(device).__name__}; give 'CPU', 'GPU' or 'GPU:n'")
    if not re.fullmatch(r"CPU|GPU(:\d+)?", device, re.IGNORECASE):
        raise InputError(
            f"device: {device!r}: Device argument must start with either CPU or GPU; give 'CPU', 'GPU' or 'GPU:n'"
        )
    return device


def _check_backend(backend: object) -> str:
    if not isinstance(backend, str):
        raise InputTypeError(
            f"backend: {backend!r} is a {type(backend).__name__}; give 'TF', 'TFLITE', 'TORCH' or 'ONNX'"
        )
    try:
        return BACKENDS[backend.upper()]
    except KeyError:
        raise InputError(f"backend: {backend!r} is unsupported; use TF, TFLITE, TORCH or ONNX") from None


def _model_bytes(model: object) -> bytes | None:
    if model is None:
        return None
    if isinstance(model, io.BytesIO):
        model = model.getvalue()
    if not isinstance(model, (bytes, bytearray, memoryview)):
        raise InputTypeError(
            f"model: a {type(model).__name__} is no serialized model; give its bytes, or its file as model_path"
        )
    return bytes(model) or None


def _node_names(argument: str, names: str | Sequence[str] | None) -> list[str]:
    if names is None:
        return []
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, Iterable) or not all(isinstance(name, str) for name in listed):
        raise InputTypeError(f"{argument}: {names!r}; give a name or a list of names")
    return list(listed)


def _count(argument: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputTypeError(f"{argument}={value!r} is a {type(value).__name__}; give a whole number")
    if value < least:
        raise InputError(f"{argument}={value}; give {least} or more")
    return value
