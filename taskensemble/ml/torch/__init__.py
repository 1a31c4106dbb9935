"""For users of torch: online training data, and models as bytes for the AI database."""

from __future__ import annotations

from .data import DataLoader, DynamicDataGenerator, StaticDataGenerator
from .serialize import export_model, freeze_model, script_model, trace_model

__all__ = [
    "DataLoader",
    "DynamicDataGenerator",
    "StaticDataGenerator",
    "export_model",
    "freeze_model",
    "script_model",
    "trace_model",
]
