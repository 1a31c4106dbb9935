"""SmartSim's model: taskensemble's, with a path of any type."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import taskensemble.entity
from taskensemble.entity.colocated import ColocatedDatabase, pinned_cpus
from taskensemble.entity.files import AttachedFiles
from taskensemble.entity.parameters import scalar_text
from taskensemble.settings import BatchSettings, RunSettings
from taskensemble.smartsim.entity.files import EntityFiles


class Model(taskensemble.entity.Model):
    """One program to run: see `taskensemble.entity.Model`."""

    def __init__(
        self,
        name: str,
        params: Mapping[str, Any] | None,
        run_settings: Any,
        path: object = None,
        params_as_args: Any = None,
        batch_settings: BatchSettings | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(run_settings, str) and isinstance(path, RunSettings):
            # Older drivers give the folder before the settings.
            run_settings, path = path, run_settings
        folder = path if isinstance(path, (str, os.PathLike)) else None
        super().__init__(name, params, run_settings, folder, params_as_args, batch_settings, **kwargs)

    @property
    def files(self) -> EntityFiles | None:
        """Files that the program finds in its folder; None: none are attached."""
        return self._files

    @files.setter
    def files(self, files: AttachedFiles | None) -> None:
        self._files = files if files is None or isinstance(files, EntityFiles) else EntityFiles.made_of(files)

    @staticmethod
    def _create_pinning_string(pin_ids: Any, cpus: int) -> str | None:
        """The CPUs of a colocated database as text: what drivers read from `colocated_db_settings`."""
        return ColocatedDatabase("tcp", cpus=cpus, pinning=pinned_cpus(pin_ids)).pinning_text


def _parse_model_parameters(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text, each a single value.

    Raises:
        InputTypeError: a value is neither text nor a number.
    """
    return {name: scalar_text(name, value) for name, value in params.items()}


__all__ = ["Model"]
