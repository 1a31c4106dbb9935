"""The resource list that PBS and SGE take with `-l`: names and values, checked."""

from __future__ import annotations

from collections.abc import Mapping

from taskensemble.errors import InputTypeError

Resources = dict[str, str | int]


def checked(resources: Mapping[str, str | int]) -> Resources:
    """A copy of `resources`.

    Raises:
        InputTypeError: a name is not a str, or a value neither a str nor an int.
    """
    for name, value in resources.items():
        if not isinstance(name, str):
            raise InputTypeError(f"resources: the name {name!r} is of type {type(name).__name__}; give a str")
        if not isinstance(value, (str, int)):
            raise InputTypeError(
                f"resources[{name!r}]={value!r} is of type {type(value).__name__}; give a str or an int"
            )
    return dict(resources)
