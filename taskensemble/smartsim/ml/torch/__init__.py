"""Helpers for users of torch."""

from taskensemble.ml.torch import DataLoader, DynamicDataGenerator, StaticDataGenerator

__all__ = ["DataLoader", "DynamicDataGenerator", "StaticDataGenerator"]
