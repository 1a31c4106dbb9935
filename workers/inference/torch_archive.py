"""TorchScript archives: checked before they are loaded, then frozen and optimised.

TorchScript cannot run Python, but some of its operators read and write files or talk to other machines, and an archive's
code may run while it is being loaded (`__setstate__`). So the code in an archive is read first, with the very reader that
loads it afterwards, and refused when it names anything but arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from .backend import BackendError

_ALLOWED_NAMESPACES = frozenset(
    (
        "aten",
        "prim",
        "prims",
        "quantized",
        "_quantized",
        "sparse",
        "mkldnn",
        "mkldnn_prepacked",
        "onednn",
        "torchvision",
        "redis",
        "redisAI",
    )
)
_FORBIDDEN_OPERATORS = frozenset(
    ("save", "from_file", "load_tensor", "rpc_async", "rpc_sync", "rpc_remote", "to_here", "dist_backward", "PythonOp")
)
_ALLOWED_CLASSES = frozenset(("quantized", "sparse", "mkldnn", "xnnpack"))

_STRING_LITERAL = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_COMMENT = re.compile(r"#[^\n]*")
_OPERATOR = re.compile(r"\bops\s*\.\s*(\w+)\s*\.\s*(\w+)|\btorch\s*\.\s*(\w+)|\^\s*(\w+)")
_CLASS = re.compile(r"__torch__\s*\.\s*torch\s*\.\s*classes\s*\.\s*(\w+)")


class Loaded(NamedTuple):
    """A loaded program, ready to be called."""

    forward: Callable[..., Any]
    input_names: Sequence[str]
    output_names: Sequence[str] | None
    """None: the number of outputs is known only when it runs."""
    stateful: bool
    """Whether a run changes the program."""


def load(path: str, device: torch.device) -> Loaded:
    """Load a TorchScript archive.

    Arguments:
        path: of a file that nobody else can change: it is read twice.
    Raises:
        BackendError: it is no archive, it is broken, or its code names an operator that is not arithmetic.
    """
    try:
        check_archive(path)
        # Weights made in inference mode could never be differentiated through.
        with torch.inference_mode(False):
            module = torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise BackendError(str(error)) from error
    script = module._c
    if not script._has_method("forward"):
        raise BackendError("Method 'forward' is not defined.")
    graph = script._get_method("forward").inlined_graph
    check_graph(graph)
    schema = script._get_method("forward").schema
    names = [argument.name for argument in schema.arguments[1:] if not argument.has_default_value()]
    forward = _optimised(module, str(graph), device)
    return Loaded(forward, names, _output_names(schema), "prim::SetAttr" in str(graph))


def check_archive(path: str) -> None:
    """Refuse an archive whose code names a forbidden operator or class, or whose format predates the checks."""
    reader = torch._C.PyTorchFileReader(path)
    for record in reader.get_all_records():
        lowered = record.lower()
        if lowered.endswith("model.json"):
            raise BackendError("refused: this archive has the format of PyTorch 1.0; save it again with a newer torch")
        if lowered.endswith(".py"):
            check_source(reader.get_record(record).decode("utf-8", "replace"))


def check_source(code: str) -> None:
    """Refuse serialized TorchScript code that names anything but arithmetic."""
    bare = _COMMENT.sub("", _STRING_LITERAL.sub("''", code))
    for namespace, name, torch_name, python_name in _OPERATOR.findall(bare):
        check_operator(namespace or "aten", name or torch_name or python_name)
        if python_name:
            raise BackendError(f"refused: the model calls the Python function {python_name}")
    for namespace in _CLASS.findall(bare):
        if namespace not in _ALLOWED_CLASSES:
            raise BackendError(f"refused: the model uses the class torch.classes.{namespace}")


def check_operator(namespace: str, name: str) -> None:
    """Refuse an operator that is not arithmetic."""
    if namespace not in _ALLOWED_NAMESPACES or name.partition(".")[0] in _FORBIDDEN_OPERATORS:
        raise BackendError(f"refused: the operator {namespace}::{name} may reach files, other machines or Python")


def check_graph(graph: Any) -> None:
    """Refuse a TorchScript graph that holds a forbidden operator, in its blocks and subgraphs too."""
    for kind in _kinds(graph):
        namespace, _, name = kind.partition("::")
        check_operator(namespace, name)


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from _kinds(inner)
        for attribute in node.attributeNames():
            if node.kindOf(attribute) == "g":
                yield from _kinds(node.g(attribute))


def _optimised(module: Any, graph: str, device: torch.device) -> Callable[..., Any]:
    """The module's forward, called below nn.Module, whose hooks cost more than a small layer.

    On a CPU it is frozen where torch can. On a GPU not: the fused convolutions that torch puts into frozen graphs
    made a ResNet-18 half as slow again there (docs/clusters/gpus.md).
    """
    if "aten::grad(" in graph or "aten::backward(" in graph:
        return _with_gradients(module)
    forward = None
    if device.type == "cpu" and not any(submodule.training for submodule in module.modules()):
        try:
            frozen = torch.jit.freeze(module)
            forward = frozen._c._get_method("forward")
        except RuntimeError:
            # A module that freezing cannot follow (it changes its own parameters, say) runs as it is.
            forward = None
    if forward is None:
        forward = module._c._get_method("forward")
    if "prim::SetAttr" in graph:
        return _with_copied_inputs(forward)
    call: Callable[..., Any] = forward
    return call


def _with_copied_inputs(forward: Callable[..., Any]) -> Callable[..., Any]:
    """For models with a state: what they keep must not lie in memory that the next unit overwrites."""

    def call(*inputs: torch.Tensor) -> Any:
        return forward(*(value.clone() for value in inputs))

    return call


def _with_gradients(module: Any) -> Callable[..., Any]:
    """For models that differentiate inside (forces from an energy): tensors of inference mode cannot do that."""
    forward = module._c._get_method("forward")

    def call(*inputs: torch.Tensor) -> Any:
        with torch.inference_mode(False), torch.enable_grad():
            return forward(*(value.clone() for value in inputs))

    return call


def _output_names(schema: Any) -> list[str] | None:
    names: list[str] = []
    for value in schema.returns:
        if value.type.kind() == "TupleType":
            names.extend("" for _ in value.type.elements())
        elif value.type.kind() == "TensorType":
            names.append(value.name)
        else:
            return None
    return names
