"""Batch settings of PBS."""

from taskensemble.settings import QsubBatchSettings

__all__ = ["QsubBatchSettings"]
