"""Generators of training data for torch."""

from taskensemble.ml.torch import DataLoader, DynamicDataGenerator, StaticDataGenerator

__all__ = ["DataLoader", "DynamicDataGenerator", "StaticDataGenerator"]
