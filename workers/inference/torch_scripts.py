"""TorchScript source: compiled when it is stored, called function by function.

`redis.execute(command, *args)`, `redis.asList(reply)` and `redisAI.model_execute(name, inputs, outputs)` are operators of torch,
registered here: the names `redis` and `redisAI` resolve to their namespaces while a script is compiled. They act on the database
that the script being run is stored in.
"""

from __future__ import annotations

import math
import textwrap
import typing
from collections.abc import Sequence
from typing import Any

import torch

from .backend import BackendError, Database
from .torch_archive import check_graph

_MOST_ARGUMENTS = 16
_ENTRY_TYPES = ("Tensor[]", "str[]", "str[]")

_database: Database | None = None
"""The database of the script that is running: operators take no context."""


def _execute(command: str, *args: str) -> Any:
    if _database is None:
        raise RuntimeError("redis.execute was called outside of a script")
    try:
        return _typed(_database.execute(command, args))
    except BackendError as error:
        text = str(error)
        if "wrong number of arguments" in text:
            text = f"Invalid argument ({text})"  # all that the original says
        raise RuntimeError(f"Redis command returned an error: {text}") from error


def _execute_list(command: str, args: list[str]) -> Any:
    return _execute(command, *args)


def _as_list(value: Any) -> list[Any]:
    """A reply that is an array, as a list whose elements a script can take out: TorchScript knows only that it is Any."""
    if not isinstance(value, list):
        raise RuntimeError(f"redis.asList was given a {type(value).__name__}, not the array of a reply")
    return value


def _model_execute(name: str, inputs: list[torch.Tensor], outputs: int) -> list[torch.Tensor]:
    if _database is None:
        raise RuntimeError("redisAI.model_execute was called outside of a script")
    return list(_database.model(name)(inputs, outputs))


def _typed(reply: Any) -> Any:
    """A reply as a value that TorchScript has a type for: the elements of its lists must be of one kind."""
    if isinstance(reply, list | tuple):
        values = [_typed(value) for value in reply]
        if len({type(value) for value in values}) > 1:
            return ["" if value is None else str(value) for value in values]
        return values
    return reply


def _register() -> list[Any]:
    """Define the operators. They have effects, so the compiler may neither move them nor run them ahead."""
    redis = torch.library.Library("redis", "FRAGMENT")
    for count in range(_MOST_ARGUMENTS + 1):
        arguments = "".join(f", str arg{index}" for index in range(count))
        redis.define(f"execute.with{count}(str command{arguments}) -> Any", alias_analysis="CONSERVATIVE")
        redis.impl(f"execute.with{count}", _execute, "CompositeExplicitAutograd")
    redis.define("execute.list(str command, str[] args) -> Any", alias_analysis="CONSERVATIVE")
    redis.impl("execute.list", _execute_list, "CompositeExplicitAutograd")
    redis.define("asList(Any value) -> Any[]", alias_analysis="CONSERVATIVE")
    redis.impl("asList", _as_list, "CompositeExplicitAutograd")
    redis_ai = torch.library.Library("redisAI", "FRAGMENT")
    redis_ai.define("model_execute(str name, Tensor[] inputs, int outputs) -> Tensor[]", alias_analysis="CONSERVATIVE")
    redis_ai.impl("model_execute", _model_execute, "CompositeExplicitAutograd")
    return [redis, redis_ai]


_LIBRARIES = _register()
_NAMES: dict[str, Any] = {
    "torch": torch,
    "math": math,
    "redis": torch.ops.redis,
    "redisAI": torch.ops.redisAI,
    **{name: getattr(typing, name) for name in ("Any", "Dict", "List", "NamedTuple", "Optional", "Tuple", "Union")},
}


def compile_script(source: str, entry_points: list[str], database: Database) -> TorchScript:
    """Compile a script; its source may be indented as a whole.

    Arguments:
        source: TorchScript functions.
        entry_points: functions with the signature `(tensors: List[Tensor], keys: List[str], args: List[str])`.
        database: what `redis` and `redisAI` act on.
    Raises:
        BackendError: the source does not compile, an entry point is missing or has another signature, or a function calls
            something that is not arithmetic.
    """
    unit = torch._C.CompilationUnit()
    try:
        unit.define(textwrap.dedent(source) + "\n", _NAMES.get)  # the compiler wants the last line ended
    except Exception as error:
        # The compiler raises nearly anything: it follows a script into the Python functions of torch that it names.
        raise BackendError(str(error)) from error
    for function in unit.get_functions():
        check_graph(function.inlined_graph)
    for name in entry_points:
        _check_entry_point(unit, name)
    return TorchScript(unit, database)


def _check_entry_point(unit: Any, name: str) -> None:
    function = unit.find_function(name)
    if function is None:
        raise BackendError(f"Function {name} does not exist in the given script.")
    arguments = function.schema.arguments
    if len(arguments) != len(_ENTRY_TYPES):
        raise BackendError(
            f"Wrong number of inputs in function {name}. Expected {len(_ENTRY_TYPES)} but was {len(arguments)}"
        )
    if tuple(argument.type.str() for argument in arguments) != _ENTRY_TYPES:
        raise BackendError(
            f"Wrong inputs type in function {name}. Expected signature similar to: "
            f"def {name}(tensors: List[Tensor], keys: List[str], args: List[str])"
        )


class TorchScript:
    """A compiled script."""

    def __init__(self, unit: Any, database: Database) -> None:
        self._unit = unit
        self._database = database
        self._functions: dict[str, Any] = {}

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
    ) -> Sequence[torch.Tensor]:
        """Call a function.

        Arguments:
            entry_point: call it as `function(inputs, keys, args)`; otherwise inputs are positional.
            list_at: index of the input where a trailing `List[Tensor]` begins; -1: as the function's parameters say.
        """
        global _database
        called = self._functions.get(function)
        if called is None:
            called = self._unit.find_function(function)
            if called is None:
                raise BackendError(f"Function does not exist: {function}")
            self._functions[function] = called
        arguments = (inputs, keys, args) if entry_point else _positional(called, function, inputs, list_at)
        _database = self._database
        try:
            result = called(*arguments)
        except Exception as error:
            # Where an operator of ours failed, torch adds our own call stack, which tells a user nothing.
            raise BackendError(str(error).partition("\n\nAt:\n")[0]) from error
        finally:
            _database = None
        return tensors_of(result, outputs, function)


def _positional(called: Any, function: str, inputs: list[Any], list_at: int) -> list[Any]:
    parameters = called.schema.arguments
    takes_list = bool(parameters) and parameters[-1].type.str() == "Tensor[]"
    if list_at >= 0 or takes_list:
        split = list_at if list_at >= 0 else len(parameters) - 1
        arguments = [*inputs[:split], inputs[split:]]
    else:
        arguments = inputs
    if len(arguments) != len(parameters) or (takes_list and len(inputs) < len(parameters) - 1):
        raise BackendError(
            f"Wrong number of inputs in function {function}. Expected {len(parameters)} but was {len(inputs)}"
        )
    return arguments


def tensors_of(result: Any, outputs: int, function: str) -> list[torch.Tensor]:
    """The tensors of a function's result: a tensor, or a list or tuple of tensors.

    Where no outputs are asked for, whatever it returns is dropped: a function may be called for what it does to the database.
    """
    if outputs == 0:
        return []
    values = list(result) if isinstance(result, list | tuple) else [result]
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise BackendError(f"Function returned non-tensor values - {function}")
    if len(values) != outputs:
        raise BackendError(f"Function returned unexpected number of outputs - {function}")
    return values
