"""SmartRedis' name of the module that makes xarray's DataArrays of datasets: imports change in their first word only."""

from __future__ import annotations

from .xarray import DatasetConverter

__all__ = ["DatasetConverter"]
