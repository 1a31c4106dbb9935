"""The client's calls on scripts: TorchScript source and Python functions."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .arguments import check_type, checked_device, checked_file, gpu_range, names
from .execution import gpu_copies, gpu_name, scope
from .models import ModelCalls
from .resp import Argument
from .session import LOAD_TIMEOUT, reported
from .topology import Command


class ScriptCalls(ModelCalls):
    """Scripts by name; on several GPUs as models are."""

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
        self._store_scripts(gpu_copies(name, gpus), _source_of(function))

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
        self._store_scripts(gpu_copies(name, gpu_range(first_gpu, num_gpus)), script)

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
        self._store_scripts(gpu_copies(name, gpus), Path(checked_file(file, "file")).read_text())

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
        self._run_script(gpu_name(name, offset, first_gpu, num_gpus), fn_name, names(inputs), names(outputs))

    def _run_script(self, name: str, fn_name: str, inputs: list[str], outputs: list[str]) -> None:
        check_type(fn_name, "fn_name", str)

        def command(script: bytes, sources: list[bytes], targets: list[bytes]) -> tuple[Argument, ...]:
            scopes = (*scope(b"INPUTS", sources), *scope(b"OUTPUTS", targets))
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
        self._delete(b"AI.SCRIPTDEL", [copy for copy, _ in gpu_copies(name, gpu_range(first_gpu, num_gpus))])


def _source_of(function: Callable[..., Any]) -> str:
    if not callable(function):
        raise TypeError(f"Argument provided for function, {type(function)}, is not callable")
    return textwrap.dedent(inspect.getsource(function))
