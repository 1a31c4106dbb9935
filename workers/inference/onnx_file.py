"""ONNX files: looked into before onnxruntime loads them.

ONNX has no operator that reaches the file system, but a tensor may say that its data lies in another file, and an operator of
Microsoft's own loads a compiled model by its path. Both are refused. Field numbers are those of `onnx.proto`.
"""

from __future__ import annotations

from .backend import BackendError
from .protobuf import BrokenMessage, fields, messages, text

_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE_INITIALIZER = 1, 5, 15
_FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 7, 11
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_SPARSE_PARTS = (1, 2)
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_FORBIDDEN_OPERATORS = frozenset(("EPContext", "PyOp"))
_ORT_FORMAT = b"ORTM"


def check_model(blob: bytes) -> None:
    """Refuse a model that points outside of itself.

    Raises:
        BackendError: it is no ONNX model, or it names another file.
    """
    if blob[4:8] == _ORT_FORMAT:
        raise BackendError("refused: models in ORT format cannot be checked; store the .onnx file")
    try:
        model = memoryview(blob)
        for number, value in fields(model):
            if isinstance(value, int):
                continue
            if number == _MODEL_GRAPH:
                _check_graph(value)
            elif number == _MODEL_FUNCTIONS:
                for node in messages(value, _FUNCTION_NODE):
                    _check_node(node)
                for attribute in messages(value, _FUNCTION_ATTRIBUTE):
                    _check_attribute(attribute)
            elif number == _MODEL_TRAINING:
                raise BackendError("refused: the model holds training information, which inference has no use for")
    except BrokenMessage as error:
        raise BackendError(f"ModelProto is invalid: {error}") from error


def _check_graph(graph: memoryview) -> None:
    for number, value in fields(graph):
        if isinstance(value, int):
            continue
        if number == _GRAPH_NODE:
            _check_node(value)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(value)
        elif number == _GRAPH_SPARSE_INITIALIZER:
            _check_sparse(value)


def _check_node(node: memoryview) -> None:
    for number, value in fields(node):
        if number == _NODE_OPERATOR and text(value) in _FORBIDDEN_OPERATORS:
            raise BackendError(f"refused: the operator {text(value)} loads other files")
        if number == _NODE_ATTRIBUTE and not isinstance(value, int):
            _check_attribute(value)


def _check_attribute(attribute: memoryview) -> None:
    for number, value in fields(attribute):
        if isinstance(value, int):
            continue
        if number in _ATTRIBUTE_TENSORS:
            _check_tensor(value)
        elif number in _ATTRIBUTE_GRAPHS:
            _check_graph(value)
        elif number in _ATTRIBUTE_SPARSE:
            _check_sparse(value)


def _check_sparse(sparse: memoryview) -> None:
    for number in _SPARSE_PARTS:
        for tensor in messages(sparse, number):
            _check_tensor(tensor)


def _check_tensor(tensor: memoryview) -> None:
    for number, value in fields(tensor):
        if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0):
            raise BackendError("Initializer tensors with external data is not allowed.")  # as onnxruntime says it there
