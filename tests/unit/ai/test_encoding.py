from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from taskensemble.ai.encoding import DTYPES, decode, encode, type_name


@pytest.mark.parametrize("name", DTYPES)
def test_every_numeric_type_comes_back_as_it_was(name: str) -> None:
    array = np.array([[0, 1], [1, 0]], dtype=DTYPES[name])
    encoded = encode(array)
    again = decode(encoded.dtype, encoded.shape, bytes(encoded.blob))
    assert encoded.dtype == name
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


@given(arrays(np.float64, array_shapes(max_dims=4)))
def test_any_layout_travels_in_c_order(array: np.ndarray) -> None:
    for view in (array, array.T, np.asfortranarray(array), array[::2]):
        encoded = encode(view)
        again = decode(encoded.dtype, encoded.shape, bytes(encoded.blob))
        assert again.shape == view.shape
        assert np.array_equal(again, view, equal_nan=True)


def test_a_contiguous_array_is_not_copied() -> None:
    array = np.zeros(1000, np.float32)
    blob = encode(array).blob
    array[0] = 7
    assert np.frombuffer(blob, np.float32)[0] == 7


def test_big_endian_elements_are_turned_round() -> None:
    array = np.array([1, 256], dtype=">i4")
    encoded = encode(array)
    assert encoded.dtype == "INT32"
    assert bytes(encoded.blob) == np.array([1, 256], dtype="<i4").tobytes()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_strings_come_back_as_they_were(values: list[str]) -> None:
    encoded = encode(np.array(values, dtype=object))
    assert encoded.dtype == "STRING"
    assert bytes(encoded.blob).count(b"\0") == len(values)
    assert decode("STRING", encoded.shape, encoded.blob).tolist() == values


def test_a_string_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        encode(np.array(["a\0b"], dtype=object))


@pytest.mark.parametrize("dtype", ["uint32", "uint64", "complex128", "float16", "datetime64[s]"])
def test_types_without_a_tensor_type_are_named(dtype: str) -> None:
    with pytest.raises(TypeError, match="Incompatible tensor type provided"):
        type_name(np.dtype(dtype))


def test_what_is_decoded_can_be_written_to() -> None:
    decode("FLOAT", [2], b"\0" * 8)[0] = 1


def test_a_large_blob_becomes_the_arrays_memory() -> None:
    buffer = bytearray(8)
    decode("FLOAT", [2], buffer)[0] = 1
    assert buffer[:4] == np.float32(1).tobytes()
