"""SmartSim's ensemble: taskensemble's, by SmartSim's rules for replicas and paths."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import taskensemble.entity
from taskensemble.settings import BatchSettings, RunSettings
from taskensemble.smartsim.entity.entityList import EntityList
from taskensemble.smartsim.entity.model import Model


class Ensemble(taskensemble.entity.Ensemble):
    """Models that are started, watched and stopped as one: see `taskensemble.entity.Ensemble`.

    Replicas are ignored beside parameters, and members' folders have no level between them and the ensemble's.
    """

    member_class: ClassVar[type[taskensemble.entity.Model]] = Model

    def __init__(
        self,
        name: str,
        params: Any = None,
        path: object = None,
        params_as_args: Any = None,
        batch_settings: BatchSettings | None = None,
        run_settings: RunSettings | None = None,
        perm_strat: Any = "all_perm",
        *,
        replicas: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            name,
            params,
            path if isinstance(path, (str, os.PathLike)) else None,
            params_as_args,
            batch_settings,
            run_settings,
            perm_strat,
            replicas=None if params else replicas,
            **kwargs,
        )
        self.replicas = replicas
        self.shard = 0

    def set_path(self, new_path: str) -> None:
        """Choose the ensemble's folder. Members without a folder of their own move with it."""
        super().set_path(new_path)

    def add_model(self, model: taskensemble.entity.Model) -> None:
        """Add a model: see `taskensemble.entity.Ensemble.add_model`. One that was given the ensemble's own path goes below it.

        Raises:
            TypeError, EntityExistsError, SSUnsupportedError: as there.
        """
        super().add_model(model)
        if model.path == self.path:
            model.release_path()


EntityList.register(Ensemble)

__all__ = ["Ensemble"]
