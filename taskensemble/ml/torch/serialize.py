"""Torch models as bytes: what `add_ml_model(model=...)` and `Client.set_model` take for the backend TORCH."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from taskensemble.errors import InputTypeError


def trace_model(model: torch.nn.Module, example_inputs: Any) -> bytes:
    """Record what a model does with example inputs, as a TorchScript archive. Suits models without data-dependent branches.

    Arguments:
        model: in whatever mode; it is recorded in evaluation mode.
        example_inputs: a tensor, or a tuple of tensors: the arguments of `forward`.
    """
    with _evaluating(model), torch.no_grad():
        return _archive(torch.jit.trace(model, example_inputs))


def script_model(model: torch.nn.Module) -> bytes:
    """Compile a model's source, branches and loops included, to a TorchScript archive.

    Raises:
        RuntimeError: TorchScript does not understand the source.
    """
    with _evaluating(model):
        return _archive(torch.jit.script(model))


def export_model(model: torch.nn.Module, example_inputs: Any, dynamic_batch: bool = True) -> bytes:
    """Export a model with `torch.export`, the successor of TorchScript, as a `.pt2` program.

    Arguments:
        example_inputs: a tensor, or a tuple of tensors: the arguments of `forward`. With `dynamic_batch` they should hold
            two samples or more: torch takes a dimension of 1 for a constant.
        dynamic_batch: whether the first dimension of every input may vary.
    """
    if not isinstance(example_inputs, (torch.Tensor, tuple, list)):
        _module(model)
        raise InputTypeError(f"example_inputs={example_inputs!r}: give a tensor, or a tuple of tensors")
    inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs) if dynamic_batch else None
    buffer = io.BytesIO()
    with _evaluating(model):
        torch.export.save(torch.export.export(model, inputs, dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


def freeze_model(model: torch.nn.Module, output_dir: str, file_name: str, example_inputs: Any = None) -> str:
    """Write a model as a TorchScript archive: traced if there are example inputs, otherwise scripted.

    Arguments:
        output_dir: an existing folder.
        file_name: `.pt` is added if it has no such ending.

    Returns:
        The absolute path of the file.
    Raises:
        FileNotFoundError: there is no such folder.
        InputTypeError: `model` is no module.
    """
    if not Path(output_dir).is_dir():
        raise FileNotFoundError(f"output_dir={str(output_dir)!r} is no folder: make it first")
    path = Path(output_dir, file_name if file_name.endswith(".pt") else file_name + ".pt").resolve()
    path.write_bytes(script_model(model) if example_inputs is None else trace_model(model, example_inputs))
    return str(path)


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of a block: dropout and batch statistics must not get into what is stored."""
    _module(model)
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _module(model: object) -> None:
    if not isinstance(model, torch.nn.Module):
        raise InputTypeError(f"model={model!r}: give a torch.nn.Module")


def _archive(module: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()
