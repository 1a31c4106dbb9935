"""Generators of training data for TensorFlow."""

from taskensemble.ml.tf import DynamicDataGenerator, StaticDataGenerator

__all__ = ["DynamicDataGenerator", "StaticDataGenerator"]
