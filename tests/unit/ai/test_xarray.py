from __future__ import annotations

import sys

import numpy as np
import pytest

from taskensemble.ai import Dataset
from taskensemble.ai.dataset_utils import DatasetConverter
from taskensemble.ai.error import RedisRuntimeError


def sample() -> Dataset:
    dataset = Dataset("d")
    dataset.add_tensor("field", np.arange(6.0).reshape(2, 3))
    dataset.add_tensor("x", np.array([0.5, 1.5]))
    dataset.add_meta_string("dim_x", "x")
    dataset.add_meta_string("dim_y", "y")
    dataset.add_meta_string("units", "K")
    DatasetConverter.add_metadata_for_xarray(dataset, "field", ["dim_x", "dim_y"], "x", "units")
    DatasetConverter.add_metadata_for_xarray(dataset, ["x"], ["dim_x"])
    return dataset


def test_metadata_has_the_names_of_smartredis() -> None:
    dataset = sample()
    assert dataset.get_meta_strings("_xarray_data_names") == ["field", "x"]
    assert dataset.get_meta_strings("_xarray_field_dim_names") == ["dim_x,dim_y"]
    assert dataset.get_meta_strings("_xarray_field_coord_names") == ["x"]
    assert dataset.get_meta_strings("_xarray_field_attr_names") == ["units"]
    assert dataset.get_meta_strings("_xarray_x_coord_names") == ["null"]


def test_a_dataset_becomes_data_arrays() -> None:
    pytest.importorskip("xarray")
    arrays = DatasetConverter.transform_to_xarray(sample())
    assert list(arrays) == ["field"]
    field = arrays["field"]
    assert field.dims == ("x", "y")
    assert field.attrs == {"units": "K"}
    assert field.coords["x"].values.tolist() == [0.5, 1.5]
    assert field.values.shape == (2, 3)


def test_without_xarray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(RedisRuntimeError, match="pip install xarray"):
        DatasetConverter.transform_to_xarray(sample())


def test_names_are_checked() -> None:
    with pytest.raises(TypeError):
        DatasetConverter.add_metadata_for_xarray(sample(), [1], "dim_x")  # type: ignore[list-item]
    with pytest.raises(TypeError, match="dataset"):
        DatasetConverter.add_metadata_for_xarray({}, "a", "b")  # type: ignore[arg-type]
