"""TensorFlow graphs: looked through for operators that reach beyond tensors before anything is run.

TensorFlow's operators read and write files, call Python, open datasets, talk to other machines and write logs. A graph is
reduced to what its outputs need, functions included, and is refused when any of that is forbidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from .backend import BackendError

_FORBIDDEN = re.compile(
    r"PyFunc|File|Dataset|Iterator|Reader|Restore|Save|Snapshot|Checkpoint|Summary|Debug|Dump|Rpc|TPU|"
    r"VocabRemapping|LoadAndRemap|RemoteCall|CustomCall|ImportEvent|"
    r"^(PrintV2|ImmutableConst|RecordInput|Skipgram|FixedUnigramCandidateSampler|_?Send|_?Recv|_Host\w+|Collective\w+|XlaSend|XlaRecv)$"
)
_ALLOWED = frozenset(("DebugGradientIdentity",))


def forbidden(operator: str) -> bool:
    """Whether an operator may reach files, Python, datasets or other machines."""
    return bool(_FORBIDDEN.search(operator)) and operator not in _ALLOWED


def check_nodes(nodes: Iterable[Any], library: dict[str, Any]) -> None:
    """Refuse nodes that use a forbidden operator, in every function that they reach.

    Arguments:
        nodes: NodeDefs.
        library: FunctionDefs by name.
    Raises:
        BackendError: it names the operator.
    """
    pending = list(_calls(nodes, library))
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(_calls(library[name].node_def, library))


def check_functions(names: Iterable[str], library: dict[str, Any]) -> None:
    """The same for functions of the library, by name."""
    for name in names:
        if name in library:
            check_nodes(library[name].node_def, library)


def _calls(nodes: Iterable[Any], library: dict[str, Any]) -> Iterator[str]:
    """The functions that nodes call; raises BackendError for a forbidden operator."""
    for node in nodes:
        if node.op in library:
            yield node.op
        elif forbidden(node.op):
            raise BackendError(f"refused: the operator {node.op} may reach files, other machines or Python")
        for value in node.attr.values():
            called = [value.func.name] if value.HasField("func") else [function.name for function in value.list.func]
            yield from (name for name in called if name in library)


def reduced(graph: Any, outputs: Iterable[str]) -> Any:
    """The part of a GraphDef that the outputs need: what it does not reach is never run.

    Arguments:
        graph: a GraphDef.
        outputs: names of nodes or tensors; each must exist.
    """
    by_name = {node.name: node for node in graph.node}
    pending = [node_name(output) for output in outputs]
    needed: set[str] = set()
    while pending:
        name = pending.pop()
        if name in needed or name not in by_name:
            continue
        needed.add(name)
        pending.extend(node_name(source) for source in by_name[name].input)
    kept = type(graph)()
    kept.CopyFrom(graph)
    del kept.node[:]
    kept.node.extend(node for node in graph.node if node.name in needed)
    return kept


def node_name(tensor: str) -> str:
    """Name of the node behind `name`, `name:0` or `^name`."""
    return tensor.removeprefix("^").partition(":")[0]


def tensor_name(name: str) -> str:
    """`name:0` for a node's name; a tensor's name as it is."""
    return name if ":" in name else f"{name}:0"


def library_of(graph: Any) -> dict[str, Any]:
    """The functions of a GraphDef by name."""
    return {function.signature.name: function for function in graph.library.function}
