"""Keras models for the database."""

from taskensemble.ml.tf import freeze_model, serialize_model

__all__ = ["freeze_model", "serialize_model"]
