"""The permutation strategies: what they make of parameters, and what they refuse."""

import itertools
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskensemble.entity.strategies import Replicated, expand
from taskensemble.errors import InputError, InputTypeError, UnsupportedError, UserStrategyError

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5)
VALUES = st.lists(st.integers(), min_size=1, max_size=4)
PARAMS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)


@given(PARAMS)
def test_all_perm_is_the_product_with_the_last_parameter_fastest(params):
    expected = [
        dict(zip(params, map(str, combination), strict=True)) for combination in itertools.product(*params.values())
    ]
    sets = expand(params, "all_perm")
    assert len(sets) == len(expected)
    assert list(sets) == expected
    assert sets[-1] == expected[-1]
    assert sets[1:3] == expected[1:3]


@given(st.integers(1, 6), st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_step_takes_first_values_together(length, names):
    params = {name: [f"{name}{i}" for i in range(length)] for name in names}
    assert list(expand(params, "step")) == [{name: params[name][i] for name in names} for i in range(length)]


def test_step_repeats_a_single_value():
    assert list(expand({"a": [1, 2], "b": 5}, "step")) == [{"a": "1", "b": "5"}, {"a": "2", "b": "5"}]


def test_step_refuses_lists_of_unequal_lengths():
    with pytest.raises(ValueError, match="h has 2, g has 3"):
        expand({"h": [1, 2], "g": [1, 2, 3]}, "step")


@given(PARAMS, st.integers(0, 30), st.integers(0, 5))
def test_random_draws_distinct_combinations(params, n_models, seed):
    total = math.prod(map(len, params.values()))
    sets = list(expand(params, "random", n_models=n_models, seed=seed))
    assert len(sets) == (total if n_models in (0, *range(total, 31)) else n_models)
    positions = [tuple(item.items()) for item in sets]
    if all(len(set(values)) == len(values) for values in params.values()):
        assert len(set(positions)) == len(positions)
    assert sets == list(expand(params, "random", n_models=n_models, seed=seed))


@pytest.mark.parametrize("parameters", [12, 40])
def test_random_never_builds_all_combinations(parameters):
    params = {f"p{i}": list(range(10)) for i in range(parameters)}
    begun = time.monotonic()
    sets = list(expand(params, "random", n_models=10, seed=1))
    assert time.monotonic() - begun < 1
    assert len({tuple(item.values()) for item in sets}) == 10


@pytest.mark.parametrize("strategy", ["all_perm", "random"])
def test_more_combinations_than_an_ensemble_can_have_are_refused(strategy):
    with pytest.raises(InputError, match=r"1000000000000 combinations.*n_models"):
        expand({f"p{i}": list(range(10)) for i in range(12)}, strategy)


@pytest.mark.parametrize("strategy", ["all_perm", "step"])
def test_n_models_means_nothing_without_drawing(strategy):
    with pytest.raises(InputError, match="n_models=3"):
        expand({"a": [1, 2]}, strategy, n_models=3)


@pytest.mark.parametrize("strategy", ["latin_hypercube", "sobol"])
def test_samplers_fill_their_ranges(strategy):
    params = {"T": (90.0, 110.0), "D": [0.1, 0.5], "label": "x", "k": 3}
    sets = list(expand(params, strategy, n_models=8, seed=7))
    assert len(sets) == 8
    assert all(list(item) == ["T", "D", "label", "k"] for item in sets)
    assert {item["label"] for item in sets} == {"x"}
    assert {item["k"] for item in sets} == {"3"}
    strata = sorted(int((float(item["T"]) - 90.0) / 20.0 * 8) for item in sets)
    assert strata == list(range(8))
    assert sets == list(expand(params, strategy, n_models=8, seed=7))
    assert sets != list(expand(params, strategy, n_models=8, seed=8))


@pytest.mark.parametrize("n_models", [1, 3, 5])
def test_sobol_takes_any_number_without_a_warning(n_models, recwarn):
    assert len(expand({"T": (0, 1)}, "sobol", n_models=n_models)) == n_models
    assert not recwarn.list


@pytest.mark.parametrize(
    ("params", "n_models", "told"),
    [
        ({"T": (90.0, 110.0)}, 0, "n_models"),
        ({"T": (110.0, 90.0)}, 4, "'T'"),
        ({"T": (1, 2, 3)}, 4, "'T'"),
        ({"T": (0, math.inf)}, 4, "'T'"),
        ({"T": ["a", "b"]}, 4, "'T'"),
        ({"T": 5}, 4, "range"),
    ],
)
def test_samplers_refuse_what_is_no_range(params, n_models, told):
    with pytest.raises(InputError, match=told):
        expand(params, "latin_hypercube", n_models=n_models)


def test_samplers_refuse_a_range_of_other_things():
    with pytest.raises(InputTypeError, match="'T'"):
        expand({"T": (None, object())}, "sobol", n_models=2)


def test_a_users_function_gets_names_texts_and_n_models():
    seen = []

    def strategy(names, values, n_models):
        seen.append((names, values, n_models))
        return [{"h": 1, "z": "new"}, {"h": 2.5}]

    sets = expand({"h": [5, 6], "g": "7"}, strategy, n_models=4)
    assert seen == [(["h", "g"], [["5", "6"], ["7"]], 4)]
    assert list(sets) == [{"h": "1", "z": "new"}, {"h": "2.5"}]
    assert sets.name_sets() == {frozenset({"h", "z"}), frozenset({"h"})}


@pytest.mark.parametrize("returned", [-1, None, [["5"]], ({"h": 1},), []])
def test_a_users_function_that_returns_no_list_of_dicts_is_named(returned):
    def odd_one(names, values, n_models):
        return returned

    with pytest.raises(UserStrategyError, match="odd_one"):
        expand({"h": [5, 6]}, odd_one)


def test_a_users_functions_own_exception_passes_through():
    def failing(names, values, n_models):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        expand({"h": [5, 6]}, failing)


@pytest.mark.parametrize("strategy", ["all", "", None, 5])
def test_an_unknown_strategy_is_refused_with_the_known_ones(strategy):
    with pytest.raises(UnsupportedError, match="all_perm, step, random, latin_hypercube, sobol"):
        expand({"h": [1]}, strategy)


@given(PARAMS, st.integers(1, 4))
def test_replicas_follow_their_set(params, replicas):
    sets = expand(params, "all_perm")
    assert list(Replicated(sets, replicas)) == [item for item in sets for _ in range(replicas)]
