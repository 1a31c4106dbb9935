"""The permutation strategies as functions of names, values and the number of models."""

from __future__ import annotations

from taskensemble.entity.strategies import expand

Sets = list[dict[str, str]]


def create_all_permutations(param_names: list[str], param_values: list[list[str]], _n_models: int = 0) -> Sets:
    """All combinations, the last parameter fastest."""
    return list(expand(dict(zip(param_names, param_values, strict=True)), "all_perm"))


def step_values(param_names: list[str], param_values: list[list[str]], _n_models: int = 0) -> Sets:
    """The first values together, the second values together, and so on."""
    return list(expand(dict(zip(param_names, param_values, strict=True)), "step"))


def random_permutations(param_names: list[str], param_values: list[list[str]], n_models: int = 0) -> Sets:
    """`n_models` of all combinations, none twice; all of them for 0."""
    return list(expand(dict(zip(param_names, param_values, strict=True)), "random", n_models=n_models))
