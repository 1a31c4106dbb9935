"""Datasets as xarray's DataArrays: metadata that tells which tensors are data, dimensions and coordinates of which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arguments import check_type
from .dataset import Dataset
from .error import RedisRuntimeError

if TYPE_CHECKING:
    from xarray import DataArray  # type: ignore[import-not-found, unused-ignore]

_DATA_NAMES = "_xarray_data_names"


class DatasetConverter:
    """SmartRedis' two functions; the second needs the package xarray."""

    @staticmethod
    def add_metadata_for_xarray(
        dataset: Dataset,
        data_names: list[str] | str,
        dim_names: list[str] | str,
        coord_names: list[str] | str | None = None,
        attr_names: list[str] | str | None = None,
    ) -> None:
        """Note in a dataset how tensors make DataArrays.

        Arguments:
            data_names: tensors that become DataArrays, or coordinates of others.
            dim_names: metadata fields with the names of their dimensions, in order.
            coord_names: tensors that are their coordinates.
            attr_names: metadata fields that become their attributes.
        """
        check_type(dataset, "dataset", Dataset)
        parts = {"dim": _names(dim_names), "coord": _names(coord_names), "attr": _names(attr_names)}
        for name in _names(data_names):
            dataset.add_meta_string(_DATA_NAMES, name)
            for part, fields in parts.items():
                dataset.add_meta_string(f"_xarray_{name}_{part}_names", ",".join(fields) or "null")

    @staticmethod
    def transform_to_xarray(dataset: Dataset) -> dict[str, DataArray]:
        """The DataArrays of a dataset, by name.

        Raises:
            RedisRuntimeError: xarray is not installed, or the dataset has no such metadata.
        """
        check_type(dataset, "dataset", Dataset)
        try:
            from xarray import DataArray
        except ImportError as error:
            raise RedisRuntimeError("xarray is not installed: pip install xarray") from error
        data = dataset.get_meta_strings(_DATA_NAMES)
        coordinates = {name: [c for c in _parts(dataset, name, "coord") if c in data] for name in data}
        used = {c for names in coordinates.values() for c in names}
        return {
            name: DataArray(
                name=name,
                data=dataset.get_tensor(name),
                dims=_values(dataset, name, "dim"),
                coords={
                    c: (_values(dataset, c, "dim"), dataset.get_tensor(c), _attributes(dataset, c))
                    for c in coordinates[name]
                },
                attrs=_attributes(dataset, name),
            )
            for name in data
            if name not in used
        }


def _names(names: list[str] | str | None) -> list[str]:
    listed = [names] if isinstance(names, str) else names or []
    check_type(listed, "names", list)
    for name in listed:
        check_type(name, "name", str)
    return listed


def _parts(dataset: Dataset, name: str, part: str) -> list[str]:
    text = dataset.get_meta_strings(f"_xarray_{name}_{part}_names")[0]
    return [] if text == "null" else text.split(",")


def _values(dataset: Dataset, name: str, part: str) -> list[str]:
    return [dataset.get_meta_strings(field)[0] for field in _parts(dataset, name, part)]


def _attributes(dataset: Dataset, name: str) -> dict[str, str]:
    return {field: dataset.get_meta_strings(field)[0] for field in _parts(dataset, name, "attr")}
