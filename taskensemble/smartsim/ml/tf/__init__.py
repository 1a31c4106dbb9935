"""Helpers for users of TensorFlow."""

from taskensemble.ml.tf import DynamicDataGenerator, StaticDataGenerator, freeze_model, serialize_model

__all__ = ["DynamicDataGenerator", "StaticDataGenerator", "freeze_model", "serialize_model"]
