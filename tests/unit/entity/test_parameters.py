"""What parameters may be, and how they reach files and arguments."""

import numpy as np
import pytest

from taskensemble.entity.parameters import argument_tokens, model_values, value_texts
from taskensemble.errors import InputError, InputTypeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        (0.5, "0.5"),
        (True, "True"),
        ("a b", "a b"),
        ("", ""),
        (np.float32(0.1), "0.1"),
        (np.float64(1.5), "1.5"),
        (np.int64(7), "7"),
        (np.str_("x"), "x"),
        (np.bool_(False), "False"),
        (np.array(3), "3"),
    ],
)
def test_a_scalar_becomes_its_text(value, text):
    assert model_values({"x": value})[0] == {"x": text}
    assert value_texts("x", value) == [text]


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ([1, 2.5, "a"], ["1", "2.5", "a"]),
        (range(3), ["0", "1", "2"]),
        (np.array([0.1, 0.2], dtype=np.float32), ["0.1", "0.2"]),
    ],
)
def test_a_list_becomes_texts_and_in_a_model_one_text(value, texts):
    assert value_texts("x", value) == texts
    assert model_values({"x": value}) == ({"x": " ".join(texts)}, {"x": tuple(texts)})


@pytest.mark.parametrize("value", [None, {"n": 5}, object, {1, 2}, [[1, 2]], [None], b"x"])
def test_another_type_is_an_error_that_names_the_parameter(value):
    with pytest.raises(InputTypeError, match="'x'"):
        value_texts("x", value)
    with pytest.raises(TypeError, match="'x'"):
        model_values({"x": value})


def test_an_empty_list_is_an_error_that_names_the_parameter():
    with pytest.raises(InputError, match=r"params\['x'\] is an empty list"):
        value_texts("x", [])


def test_a_tuple_is_a_range_and_no_list():
    with pytest.raises(InputTypeError, match="latin_hypercube"):
        value_texts("x", (1, 2))


def test_an_array_of_two_dimensions_is_pointed_to_samples():
    with pytest.raises(InputTypeError, match="samples"):
        value_texts("x", np.zeros((2, 2)))


@pytest.mark.parametrize("params", [{5: 1}, [("a", 1)], "a"])
def test_params_are_a_dict_of_names(params):
    with pytest.raises(InputTypeError, match="params"):
        model_values(params)


@pytest.mark.parametrize(
    ("name", "values", "tokens"),
    [
        ("--foo", ["v"], ["--foo=v"]),
        ("-foo", ["v"], ["-foo", "v"]),
        ("x", ["v"], ["-x", "v"]),
        ("xx", ["v"], ["--xx=v"]),
        ("xx", ["a b"], ["--xx=a b"]),
        ("x", ["a b"], ["-x", "a b"]),
        ("xx", ["1", "2"], ["--xx", "1", "2"]),
        ("x", ["1", "2"], ["-x", "1", "2"]),
    ],
)
def test_a_parameter_becomes_an_argument_in_the_documented_form(name, values, tokens):
    assert argument_tokens(name, values) == tokens
