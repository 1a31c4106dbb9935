"""For users of TensorFlow and Keras: models as bytes for the AI database, and online training data."""

from __future__ import annotations

from .data import DynamicDataGenerator, StaticDataGenerator
from .serialize import freeze_model, serialize_model

__all__ = ["DynamicDataGenerator", "StaticDataGenerator", "freeze_model", "serialize_model"]
