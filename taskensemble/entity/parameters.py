"""Parameter values as text: what a user may give, and how it reaches files and command lines.

A parameter is text from here on, because that is what a configured file and an argument are made of. NumPy is recognised
without being imported.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskensemble.errors import InputError, InputTypeError


def scalar_text(name: str, value: object) -> str:
    """The text of one value: a string, a number or a NumPy scalar.

    Raises:
        InputTypeError: anything else.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, numbers.Number):
        return str(value)
    if _dimensions(value) == 0:
        return str(value)
    raise InputTypeError(
        f"params[{name!r}]: {value!r} is a {type(value).__name__}; a value must be a string or a number, or a list of those"
    )


def value_texts(name: str, value: object) -> list[str]:
    """The texts of one value or of a list or one-dimensional array of values.

    Raises:
        InputError: the list is empty.
        InputTypeError: a value is neither text nor a number; a tuple (which is a range, for the samplers).
    """
    if isinstance(value, tuple):
        raise InputTypeError(
            f"params[{name!r}]: {value!r} is a tuple, which means a range and belongs to perm_strategy 'latin_hypercube' or "
            "'sobol'; give a list of values"
        )
    items = _items(value)
    if items is None:
        return [scalar_text(name, value)]
    texts = [scalar_text(name, item) for item in items]
    if not texts:
        raise InputError(f"params[{name!r}] is an empty list: there would be no members; give at least one value")
    return texts


def check_names(names: Iterable[object], argument: str) -> list[str]:
    """The parameter names of `argument`, each a string that is not empty.

    Raises:
        InputTypeError: a name is not a string.
        InputError: a name is empty or twice there.
    """
    seen: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str):
            raise InputTypeError(
                f"{argument}: the name {name!r} is a {type(name).__name__}; parameter names are strings"
            )
        if not name:
            raise InputError(f"{argument}: a parameter has an empty name; give it one")
        if name in seen:
            raise InputError(f"{argument}: {name!r} is there twice; name each parameter once")
        seen[name] = None
    return list(seen)


def model_values(params: Mapping[str, object] | None) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """A model's parameters as text, and the single texts of those that were given as lists.

    A list is written as its items joined by a space.

    Raises:
        InputTypeError: `params` is not a dict, or a value is neither text, nor a number, nor a list of those.
        InputError: a list is empty.
    """
    if params is None:
        return {}, {}
    if not isinstance(params, Mapping):
        raise InputTypeError(f"params: {params!r} is a {type(params).__name__}; give a dict of names and values")
    check_names(params, "params")
    texts: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name, value in params.items():
        if isinstance(value, str) or _items(value) is None:
            texts[name] = scalar_text(name, value)
        else:
            lists[name] = tuple(value_texts(name, value))
            texts[name] = " ".join(lists[name])
    return texts, lists


def argument_tokens(name: str, values: Sequence[str]) -> list[str]:
    """A parameter on a command line: `--xx=v`, or `-x v` for one letter, or a flag and its values when there are several.

    A name that begins with dashes keeps them. A value stays one argument, whatever spaces are in it.
    """
    flag = name if name.startswith("-") else f"-{name}" if len(name) == 1 else f"--{name}"
    if len(values) == 1 and flag.startswith("--"):
        return [f"{flag}={values[0]}"]
    return [flag, *values]


def _items(value: object) -> list[Any] | None:
    """The items of a list, a range or an array; None for everything that is one value."""
    if isinstance(value, (list, range)):
        return list(value)
    dimensions = _dimensions(value)
    if dimensions == 1:
        return list(value)  # type: ignore[call-overload, no-any-return]
    if dimensions is not None and dimensions > 1:
        raise InputTypeError(
            f"params: an array of {dimensions} dimensions; give one-dimensional arrays, or a table as samples="
        )
    return None


def _dimensions(value: object) -> int | None:
    """Dimensions of a NumPy array or scalar (or of what behaves as one); None for everything else."""
    dimensions = getattr(value, "ndim", None)
    return dimensions if isinstance(dimensions, int) and hasattr(value, "dtype") else None
