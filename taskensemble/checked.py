"""Public calls refuse arguments that they do not have, and arguments of another type than their signatures say, in words that
name the argument and what to give.

Only plain annotations are looked at: bool, int, float, str, paths, lists and mappings as a whole, descriptions by the names of
their classes. Numbers may be numpy's. None, text for a number, and all that an annotation cannot say (ranges, names, what must
exist) are the callee's to judge.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple, TypeVar

from taskensemble.errors import InputTypeError

Class = TypeVar("Class", bound=type)

_CLASSES = {
    "BatchSettings": "settings as made by create_batch_settings",
    "Container": "a container such as Singularity('image')",
    "MLModel": "an ML model",
    "Model": "a model as made by create_model",
    "RunSettings": "settings as made by create_run_settings",
    "Script": "a script",
}


class _Kind(NamedTuple):
    fits: Callable[[Any], bool]
    words: str


def _is_bool(value: Any) -> bool:
    return type(value).__name__ in ("bool", "bool_") or (isinstance(value, int) and value in (0, 1))


def _is_number(value: Any) -> bool:
    return isinstance(value, (str, Real)) or hasattr(type(value), "__index__") or hasattr(type(value), "__float__")


def _of_class(name: str) -> Callable[[Any], bool]:
    # By name: no description is imported here. Empty text stands for nothing in drivers that were written for SmartSim.
    return lambda value: (
        (isinstance(value, str) and not value) or any(base.__name__ == name for base in type(value).__mro__)
    )


_KINDS = {
    "bool": _Kind(_is_bool, "True or False"),
    "int": _Kind(_is_number, "a whole number"),
    "float": _Kind(_is_number, "a number"),
    "str": _Kind(lambda value: isinstance(value, (str, os.PathLike)), "text"),
    "os.PathLike": _Kind(lambda value: isinstance(value, (str, os.PathLike)), "a path"),
    "list": _Kind(lambda value: isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)), "a list"),
    "Iterable": _Kind(lambda value: isinstance(value, Iterable), "a list"),
    "Sequence": _Kind(
        lambda value: isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)), "a list"
    ),
    "dict": _Kind(lambda value: isinstance(value, Mapping), "a dict"),
    "Mapping": _Kind(lambda value: isinstance(value, Mapping), "a dict"),
    "None": _Kind(lambda value: value is None, "None"),
    **{name: _Kind(_of_class(name), words) for name, words in _CLASSES.items()},
}


def checked(cls: Class, leave: Collection[str] = ()) -> Class:
    """Wraps the public methods that a class defines itself, its constructor among them.

    Parameters:
        leave: names of methods that are left as they are: they judge their arguments themselves, or the package calls them often.
    """
    for name, function in list(vars(cls).items()):
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")) and name not in leave:
            where = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
            setattr(cls, name, _checking(function, where))
    return cls


def _checking(function: Callable[..., Any], where: str) -> Callable[..., Any]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = {one.name: kinds for one in parameters if (kinds := _kinds_of(one))}
    if not parameters:
        return function
    known = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    takes_others = any(one.kind is one.VAR_KEYWORD for one in parameters)
    ordered = [
        (one.name, named.get(one.name))
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]

    @functools.wraps(function)
    def call(self: Any, *args: Any, **keywords: Any) -> Any:
        for (name, kinds), value in zip(ordered, args, strict=False):
            if kinds and value is not None and not any(kind.fits(value) for kind in kinds):
                raise _refusal(where, name, value, kinds)
        for name, value in keywords.items():
            if name not in known and not takes_others:
                raise InputTypeError(f"{where}: {unknown_argument(name, known)}")
            if value is not None and (kinds := named.get(name)) and not any(kind.fits(value) for kind in kinds):
                raise _refusal(where, name, value, kinds)
        return function(self, *args, **keywords)

    return call


def unknown_argument(name: str, known: Collection[str]) -> str:
    """What is said of an argument that does not exist: the one that was probably meant, and those that there are."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    there = f"the arguments are {', '.join(known)}" if known else "it takes no arguments by name"
    return f"there is no argument {name!r}{hint} {there[0].upper() + there[1:] if near else there}"


def _kinds_of(parameter: inspect.Parameter) -> list[_Kind] | None:
    """What an argument may be; None where its annotation does not say it plainly."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name.startswith("_"):
        return None
    words = re.sub(r"\[[^|]*\]|\[(?:[^\[\]]|\[[^\]]*\])*\]", "", str(parameter.annotation)).split(" | ")
    return [_KINDS[word] for word in words] if all(word in _KINDS for word in words) else None


def _refusal(where: str, name: str, value: Any, kinds: list[_Kind]) -> InputTypeError:
    wanted = " or ".join(dict.fromkeys(kind.words for kind in kinds))
    return InputTypeError(f"{where}: {name}={value!r} is of type {type(value).__name__}; give {wanted}")
