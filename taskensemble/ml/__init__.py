"""Helpers for training and storing AI models: online training data, and models as bytes.

`taskensemble.ml.torch` and `taskensemble.ml.tf` need their library; this package does not.
"""

from __future__ import annotations

from .data import DataDownloader, DataInfo, TrainingDataUploader, form_name

__all__ = ["DataDownloader", "DataInfo", "TrainingDataUploader", "form_name"]
