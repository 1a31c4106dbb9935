"""From parameters to members: the permutation strategies.

Each strategy gives a sequence of parameter sets that knows its length and makes a set when it is asked for it, so that a
product of 100,000 combinations costs nothing until its members are planned, and a sample of 10 from 10^12 never builds them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from taskensemble.entity.parameters import scalar_text, value_texts
from taskensemble.errors import InputError, InputTypeError, UnsupportedError, UserStrategyError

ParameterSet = dict[str, str]
Strategy = Callable[[list[str], list[list[str]], int], list[dict[str, str]]]
"""A user's strategy: names, their values as text, and n_models; it returns a parameter set for each member."""

MAX_MEMBERS = 10_000_000
NAMES = ("all_perm", "step", "random", "latin_hypercube", "sobol")
SAMPLERS = ("latin_hypercube", "sobol")
DRAWING = ("random", *SAMPLERS)
"""Strategies that a seed means something to."""


class ParameterSets(Sequence[ParameterSet]):
    """A sequence of parameter sets, made one at a time."""

    def __len__(self) -> int:
        raise NotImplementedError

    def at(self, index: int) -> ParameterSet:
        """The set at `index`, which is in range."""
        raise NotImplementedError

    def name_sets(self) -> set[frozenset[str]]:
        """The names that sets have: one set of names, but for sets that a user made one by one."""
        return {frozenset(self.at(0))} if len(self) else set()

    @overload
    def __getitem__(self, index: int) -> ParameterSet: ...
    @overload
    def __getitem__(self, index: slice) -> list[ParameterSet]: ...
    def __getitem__(self, index: int | slice) -> ParameterSet | list[ParameterSet]:
        if isinstance(index, slice):
            return [self.at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.at(index % len(self))

    def __iter__(self) -> Iterator[ParameterSet]:
        return (self.at(index) for index in range(len(self)))


class Product(ParameterSets):
    """All combinations, the last parameter fastest."""

    def __init__(self, names: Sequence[str], values: Sequence[Sequence[str]]) -> None:
        self._columns = list(zip(names, values, strict=True))
        self.total = math.prod(len(column) for column in values)

    def __len__(self) -> int:
        return self.total

    def at(self, index: int) -> ParameterSet:
        picked: list[tuple[str, str]] = []
        for name, values in reversed(self._columns):
            index, position = divmod(index, len(values))
            picked.append((name, values[position]))
        return dict(reversed(picked))


class Step(ParameterSets):
    """The first values together, the second values together, and so on."""

    def __init__(self, names: Sequence[str], values: Sequence[Sequence[str]], length: int) -> None:
        self._columns = list(zip(names, values, strict=True))
        self._length = length

    def __len__(self) -> int:
        return self._length

    def at(self, index: int) -> ParameterSet:
        return {name: values[index] if len(values) > 1 else values[0] for name, values in self._columns}


class Picked(ParameterSets):
    """Some sets of another sequence."""

    def __init__(self, source: Product, indexes: Sequence[int]) -> None:
        self._source = source
        self._indexes = indexes

    def __len__(self) -> int:
        return len(self._indexes)

    def at(self, index: int) -> ParameterSet:
        return self._source.at(self._indexes[index])


class Listed(ParameterSets):
    """Sets that are there already."""

    def __init__(self, sets: Sequence[ParameterSet]) -> None:
        self._sets = sets

    def __len__(self) -> int:
        return len(self._sets)

    def at(self, index: int) -> ParameterSet:
        return dict(self._sets[index])

    def name_sets(self) -> set[frozenset[str]]:
        return {frozenset(item) for item in self._sets}


class Replicated(ParameterSets):
    """Each set of another sequence `replicas` times, one after the other."""

    def __init__(self, source: ParameterSets, replicas: int) -> None:
        self._source = source
        self._replicas = replicas

    def __len__(self) -> int:
        return len(self._source) * self._replicas

    def at(self, index: int) -> ParameterSet:
        return self._source.at(index // self._replicas)

    def name_sets(self) -> set[frozenset[str]]:
        return self._source.name_sets()


def expand(
    params: Mapping[str, object],
    strategy: str | Strategy,
    *,
    n_models: int = 0,
    seed: int | None = None,
) -> ParameterSets:
    """The parameter sets that `params` expand into.

    Args:
        params: name -> value, or list of values, or (low, high) for the samplers.
        strategy: `all_perm`, `step`, `random`, `latin_hypercube`, `sobol`, or a function.
        n_models: how many sets `random` and the samplers draw; a user's function is given it. 0: all combinations.
        seed: of `random` and the samplers.

    Raises:
        UnsupportedError: no such strategy.
        InputError, InputTypeError: values that the strategy cannot use, or too many combinations.
        UserStrategyError: a user's function returned something else than a list of dicts.
    """
    check_strategy(strategy)
    check_seed(seed, strategy)
    if callable(strategy):
        names, values = _texts(params)
        return _user(strategy, names, values, n_models)
    if strategy in SAMPLERS:
        return _space_filling(params, strategy, n_models, seed)
    names, values = _texts(params)
    if strategy == "random":
        return _random(Product(names, values), n_models, seed)
    if n_models:
        raise InputError(
            f"n_models={n_models} has no meaning with perm_strategy={strategy!r}; use 'random' to draw from all combinations"
        )
    if strategy == "step":
        return _step(names, values)
    return _limited(Product(names, values))


def check_strategy(strategy: object) -> None:
    """Refuse what is no strategy.

    Raises:
        UnsupportedError: it is neither a function nor the name of one.
    """
    if not callable(strategy) and strategy not in NAMES:
        raise UnsupportedError(
            f"perm_strategy: {strategy!r} is not supported; use one of {', '.join(NAMES)}, or a function of "
            "(names, values, n_models)"
        )


def check_seed(seed: object, strategy: str | Strategy) -> None:
    """Refuse a seed that is none, or that nothing is drawn with.

    Raises:
        InputTypeError: it is no whole number.
        InputError: it is negative, or the strategy draws nothing.
    """
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InputTypeError(f"seed={seed!r} is a {type(seed).__name__}; give a whole number")
    if seed < 0:
        raise InputError(f"seed={seed}; give 0 or more")
    if strategy not in DRAWING:
        shown = getattr(strategy, "__name__", strategy)
        raise InputError(
            f"seed={seed} has no meaning with perm_strategy={shown!r}, which draws nothing; use "
            f"{', '.join(DRAWING)}, or leave it out"
        )


def _texts(params: Mapping[str, object]) -> tuple[list[str], list[list[str]]]:
    return list(params), [value_texts(name, value) for name, value in params.items()]


def _limited(product: Product) -> Product:
    if product.total > MAX_MEMBERS:
        raise InputError(
            f"params have {product.total} combinations, more than the {MAX_MEMBERS} members that an ensemble can have; use "
            "perm_strategy='random' with n_models"
        )
    return product


def _step(names: list[str], values: list[list[str]]) -> Step:
    lengths = {name: len(column) for name, column in zip(names, values, strict=True) if len(column) != 1}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise InputError(
            f"params: perm_strategy='step' needs lists of one length, but {told}; a single value is repeated"
        )
    return Step(names, values, next(iter(lengths.values()), 1))


def _random(product: Product, n_models: int, seed: int | None) -> ParameterSets:
    if not n_models or n_models >= product.total:
        return _limited(product)
    source = random.Random(seed)
    try:
        return Picked(product, source.sample(range(product.total), n_models))
    except OverflowError:
        # range() cannot count past 2^63; there, twins are so rare that drawing again is cheap.
        drawn: dict[int, None] = {}
        while len(drawn) < n_models:
            drawn[source.randrange(product.total)] = None
        return Picked(product, list(drawn))


def _user(strategy: Strategy, names: list[str], values: list[list[str]], n_models: int) -> Listed:
    called = getattr(strategy, "__name__", repr(strategy))
    sets: Any = strategy(names, values, n_models)
    if not isinstance(sets, list) or not all(isinstance(item, dict) for item in sets):
        raise UserStrategyError(
            f"perm_strategy {called} failed to generate valid parameter names and values: it returned {_shown(sets)}; return "
            "a list of dicts, one a member"
        )
    if not sets:
        raise UserStrategyError(f"perm_strategy {called} returned an empty list: there would be no members")
    return Listed([{str(name): scalar_text(str(name), value) for name, value in item.items()} for item in sets])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _space_filling(params: Mapping[str, object], strategy: str, n_models: int, seed: int | None) -> Listed:
    """Points of a Latin hypercube or a scrambled Sobol' sequence (scipy.stats.qmc), scaled to the ranges."""
    if n_models < 1:
        raise InputError(f"n_models={n_models}: perm_strategy={strategy!r} needs the number of samples; give n_models")
    constants: dict[str, str] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for name, value in params.items():
        bounds = _range(name, value, strategy)
        if bounds is None:
            constants[name] = scalar_text(name, value)
        else:
            ranges[name] = bounds
    if not ranges:
        raise InputError(f"params: perm_strategy={strategy!r} needs at least one range, such as (90.0, 110.0)")

    from scipy.stats import qmc

    if strategy == "sobol":
        # A power of two keeps the sequence balanced; its beginning is what n_models asks for.
        points = qmc.Sobol(len(ranges), seed=seed).random_base2((n_models - 1).bit_length())[:n_models]
    else:
        points = qmc.LatinHypercube(len(ranges), seed=seed).random(n_models)
    sets: list[ParameterSet] = []
    for point in points:
        drawn = {
            name: str(low + (high - low) * float(x))
            for (name, (low, high)), x in zip(ranges.items(), point, strict=True)
        }
        sets.append({name: drawn.get(name) or constants[name] for name in params})
    return Listed(sets)


def _range(name: str, value: object, strategy: str) -> tuple[float, float] | None:
    """(low, high); None for a constant."""
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return None
    items = list(value)  # type: ignore[call-overload]
    if len(items) != 2 or isinstance(items[0], str) or isinstance(items[1], str):
        raise InputError(
            f"params[{name!r}]: {value!r} is no range; perm_strategy={strategy!r} needs (low, high), such as (90.0, 110.0)"
        )
    try:
        low, high = float(items[0]), float(items[1])
    except (TypeError, ValueError):
        raise InputTypeError(f"params[{name!r}]: {value!r} is no range of two numbers") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"params[{name!r}]: the range {value!r} needs a finite low below its high")
    return low, high
