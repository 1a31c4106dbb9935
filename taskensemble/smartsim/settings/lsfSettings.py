"""Run and batch settings of LSF."""

from taskensemble.settings import BsubBatchSettings, JsrunSettings

__all__ = ["BsubBatchSettings", "JsrunSettings"]
