"""Batch settings of SGE."""

from taskensemble.settings import SgeQsubBatchSettings

__all__ = ["SgeQsubBatchSettings"]
