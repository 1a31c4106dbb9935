"""torch.export programs (`.pt2`): checked and stripped before they are loaded, then run without their Python wrapping.

A `.pt2` archive is a graph in JSON beside weights. torch.export.load trusts it: it evaluates symbolic shapes as Python
expressions, turns node names into Python source, resolves operators by attribute access below `torch`, imports classes named
in tree specifications, falls back to unsafe unpickling, and opens shared libraries. So a program is first rewritten: only
graph, weights and constants are kept; each string in them must have a harmless form; and what is not needed to run
(stack traces, guards, sample inputs) is dropped. torch_backend.py limits every unpickling to tensors besides.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable
from typing import Any

import torch

from .backend import BackendError
from .torch_archive import Loaded, check_operator

_GRAPH = "models/model.json"
_KEPT = (_GRAPH, "data/weights/", "data/constants/", "archive_format", "archive_version", "byteorder")
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_UNPICKLED_OBJECTS = ("custom_obj", "opaque_obj")

_PLAIN = re.compile(r"[\w .,:+\-/]*")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*|")
_SYMBOL_TEXT = re.compile(r"[\w.+\-]*")
_NAME_FIELDS = frozenset(("name", "as_name", "graph_name"))
_FREE_TEXT_FIELDS = frozenset(("as_string", "as_strings"))
_DROPPED_FIELDS: dict[str, Any] = {"metadata": {}, "guards_code": [], "treespec_namedtuple_fields": {}}
_TREE_FIELDS = frozenset(("in_spec", "out_spec", "treespec"))
_TREE_TYPES = frozenset((None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"))
_HIGHER_ORDER = frozenset(
    ("cond", "while_loop", "scan", "associative_scan", "map_impl", "wrap_with_set_grad_enabled", "wrap_with_autocast")
)
_PYTHON_OPERATORS = frozenset(
    f"_operator.{name}"
    for name in (  # noqa: SIM905
        "abs add and_ eq floordiv ge getitem gt invert is_ is_not le lshift lt mod mul "
        "ne neg not_ or_ pos pow rshift sub truediv xor"
    ).split()
)
_SYMBOLIC_OPERATORS = re.compile(r"torch\.(sym_\w+|_sym_sqrt)|math\.(ceil|floor|trunc|sqrt|log2)")
_EXPRESSION_FUNCTIONS = frozenset(
    (  # noqa: SIM905
        "Symbol Integer Float Rational Add Mul Pow Mod Max Min Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan LessThan "
        "StrictGreaterThan GreaterThan And Or Not Abs ceiling floor Piecewise ExprCondPair Tuple FloorDiv ModularIndexing Where "
        "PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv "
        "IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity"
    ).split()
)
_EXPRESSION_NAMES = frozenset(("true", "false", "oo", "int_oo"))


def is_program(path: str) -> bool:
    """Whether a file looks like a torch.export archive."""
    try:
        reader = torch._C.PyTorchFileReader(path)
        return any(name.startswith("models/") for name in reader.get_all_records())
    except RuntimeError:
        return False


def load(path: str, device: torch.device) -> Loaded:
    """Load a program.

    Raises:
        BackendError: it is broken, or it holds anything that is not arithmetic on tensors.
    """
    try:
        with torch.inference_mode(False):
            program = torch.export.load(harmless(path))
            if device.type != "cpu" or any(value.device != device for value in program.state_dict.values()):
                from torch.export.passes import move_to_device_pass  # not every torch imports it with torch.export

                program = move_to_device_pass(program, str(device))
            return _flat(program)
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"torch.export program: {error}") from error


def harmless(path: str) -> io.BytesIO:
    """Rewrite a program so that loading it can run nothing; raises BackendError when it tries to."""
    reader = torch._C.PyTorchFileReader(path)
    names = list(dict.fromkeys(reader.get_all_records()))
    if _GRAPH not in names:
        raise BackendError(
            "torch.export program: it holds no models/model.json; save it by torch.export.save of torch 2.8 or newer"
        )
    for name in names:
        if name.startswith("data/aotinductor/") or name.endswith(".so"):
            raise BackendError(f"refused: the program holds compiled code ({name})")
        if any(part in name for part in _UNPICKLED_OBJECTS):
            raise BackendError(f"refused: the program holds a pickled object ({name})")
    rewritten = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(rewritten)
    writer.set_min_version(6)
    for name in names:
        if name.startswith(_KEPT):
            record = reader.get_record(name)
            if name.endswith(".json"):
                record = json.dumps(_checked(json.loads(record), "")).encode()
            writer.write_record(name, record, len(record))
    writer.write_record(_SAMPLE_INPUTS, b"", 0)
    writer.write_end_of_file()
    rewritten.seek(0)
    return rewritten


def _checked(value: Any, field: str) -> Any:
    """A part of the graph, without what is dropped; `field` is the key it stands under."""
    if isinstance(value, dict):
        for key in value:
            if not _PLAIN.fullmatch(key):
                raise BackendError(f"refused: the program holds the key {key[:80]!r}")
        return {
            key: _DROPPED_FIELDS[key] if key in _DROPPED_FIELDS else _checked(part, key) for key, part in value.items()
        }
    if isinstance(value, list):
        return [_checked(part, field) for part in value]
    if isinstance(value, str):
        _check_text(value, field)
    return value


def _check_text(text: str, field: str) -> None:
    if field == "expr_str":
        _check_expression(text)
    elif field in _TREE_FIELDS:
        _check_tree(text)
    elif field in ("target", "as_operator"):
        _check_target(text)
    elif field in _NAME_FIELDS:
        if not _IDENTIFIER.fullmatch(text):
            raise BackendError(f"refused: {text[:80]!r} is no name of a node")
    elif field not in _FREE_TEXT_FIELDS and (not _PLAIN.fullmatch(text) or ".." in text):
        raise BackendError(f"refused: the program holds {text[:80]!r} as its {field}")


def _check_target(target: str) -> None:
    if target in _PYTHON_OPERATORS or _SYMBOLIC_OPERATORS.fullmatch(target):
        return
    parts = target.split(".")
    if parts[:2] == ["torch", "ops"] and len(parts) in (4, 5):
        if parts[2] == "higher_order" and len(parts) == 4 and parts[3] in _HIGHER_ORDER:
            return
        check_operator(parts[2], parts[3])
        return
    raise BackendError(f"refused: the program calls {target[:120]!r}")


def _check_expression(text: str) -> None:
    """Only calls of known functions of sympy on names, numbers and each other: the text is evaluated as Python."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError) as error:
        raise BackendError(f"refused: {text[:80]!r} is no symbolic expression") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            harmless_node = isinstance(node.func, ast.Name) and node.func.id in _EXPRESSION_FUNCTIONS
        elif isinstance(node, ast.Name):
            harmless_node = node.id in _EXPRESSION_FUNCTIONS | _EXPRESSION_NAMES
        elif isinstance(node, ast.Constant):
            harmless_node = not isinstance(node.value, str) or bool(_SYMBOL_TEXT.fullmatch(node.value))
        else:
            harmless_node = isinstance(
                node, ast.Expression | ast.keyword | ast.Load | ast.UnaryOp | ast.USub | ast.Tuple
            )
        if not harmless_node:
            raise BackendError(f"refused: {text[:80]!r} is no symbolic expression")
    for node in ast.walk(tree):
        # sympy evaluates strings given to any other function than these as expressions of their own.
        if not isinstance(node, ast.Call) or ast.unparse(node.func) in ("Symbol", "Float", "Integer"):
            continue
        if any(isinstance(argument, ast.Constant) and isinstance(argument.value, str) for argument in node.args):
            raise BackendError(f"refused: {text[:80]!r} is no symbolic expression")


def _check_tree(text: str) -> None:
    if not text:
        return
    try:
        pending = [json.loads(text)[1]]
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise BackendError("refused: the program holds a broken tree specification") from error
    while pending:
        node = pending.pop()
        if not isinstance(node, dict) or node.get("type") not in _TREE_TYPES or "__enum__" in str(node.get("context")):
            raise BackendError("refused: inputs and outputs of a program must be tensors in tuples, lists and dicts")
        pending.extend(node.get("children_spec", ()))


def _flat(program: Any) -> Loaded:
    """A function of the program's tensors alone.

    It calls the graph directly and checks shapes itself: the module that torch makes of a program spends more on guards and
    on taking nested inputs apart than a small model on its arithmetic.
    """
    signature = program.graph_signature
    placeholders = [node for node in program.graph_module.graph.nodes if node.op == "placeholder"]
    fixed: list[Any] = []
    checks: list[tuple[int, _ShapeCheck]] = []
    names: list[str] = []
    positions: dict[str, int] = {}
    for position, (spec, node) in enumerate(zip(signature.input_specs, placeholders, strict=True)):
        kind = spec.kind.name
        fixed.append(None)
        if kind == "USER_INPUT" and hasattr(spec.arg, "value"):
            fixed[position] = spec.arg.value
        elif kind == "USER_INPUT":
            names.append(spec.arg.name)
            checks.append((position, _ShapeCheck(spec.arg.name, node.meta["val"], program.range_constraints)))
        elif kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            source = program.state_dict if spec.target in program.state_dict else program.constants
            fixed[position] = source[spec.target].detach()
            positions[spec.target] = position
        else:
            raise BackendError(f"torch.export program: inputs of kind {kind} are not supported")
    mutated: list[tuple[int, int]] = []
    returned: list[int] = []
    for index, spec in enumerate(signature.output_specs):
        if spec.kind.name == "USER_OUTPUT":
            if not hasattr(spec.arg, "value"):
                returned.append(index)
        elif spec.kind.name == "BUFFER_MUTATION":
            mutated.append((index, positions[spec.target]))
        else:
            raise BackendError(f"torch.export program: outputs of kind {spec.kind.name} are not supported")
    graph = program.graph_module.forward
    return Loaded(_caller(graph, fixed, checks, mutated, returned), names, [""] * len(returned), bool(mutated))


def _caller(
    graph: Callable[..., Any],
    fixed: list[Any],
    checks: list[tuple[int, _ShapeCheck]],
    mutated: list[tuple[int, int]],
    returned: list[int],
) -> Callable[..., Any]:
    def forward(*inputs: torch.Tensor) -> list[Any]:
        arguments = fixed.copy()
        symbols: dict[str, int] = {}
        for value, (position, check) in zip(inputs, checks, strict=True):
            check(value, symbols)
            arguments[position] = value
        results = graph(*arguments)
        for index, position in mutated:
            fixed[position].copy_(results[index])
        return [results[index] for index in returned]

    return forward


class _ShapeCheck:
    """What a program was exported for: the type and rank of an input, its fixed dims, and the range of its free ones."""

    def __init__(self, name: str, example: Any, ranges: dict[Any, Any]) -> None:
        self._name = name
        self._dtype = example.dtype
        self._dims: list[tuple[int, str | None, int, int]] = []
        for size in example.shape:
            if isinstance(size, int):
                self._dims.append((size, None, size, size))
                continue
            expression = size.node.expr
            limits = ranges.get(expression)
            low = int(limits.lower) if limits is not None and limits.lower.is_Integer else 0
            high = int(limits.upper) if limits is not None and limits.upper.is_Integer else 2**63 - 1
            self._dims.append((-1, str(expression) if expression.is_symbol else None, low, high))

    def __call__(self, value: torch.Tensor, symbols: dict[str, int]) -> None:
        """Raise BackendError for a tensor that the program was not exported for; `symbols` are the free dims seen so far."""
        if value.dtype is not self._dtype:
            raise BackendError(f"input {self._name}: expected type {self._dtype} but was {value.dtype}")
        shape = value.shape
        if len(shape) != len(self._dims):
            raise BackendError(f"input {self._name}: expected {len(self._dims)} dimensions but was {len(shape)}")
        for index, (size, (_, symbol, low, high)) in enumerate(zip(shape, self._dims, strict=True)):
            if not low <= size <= high:
                expected = str(low) if low == high else f"{low} to {high}"
                raise BackendError(f"input {self._name}: expected {expected} in dimension {index} but was {size}")
            if symbol is not None and symbols.setdefault(symbol, size) != size:
                raise BackendError(
                    f"input {self._name}: expected {symbols[symbol]} in dimension {index}, as in earlier inputs, but was {size}"
                )
