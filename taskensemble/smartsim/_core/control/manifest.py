"""The entities of one start, checked and sorted by kind."""

from __future__ import annotations

from typing import Any

from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.plan import check_entities
from taskensemble.smartsim._core.utils.helpers import fmt_dict


class Manifest:
    """The arguments of a start.

    Raises:
        TypeError: something is no entity.
        AttributeError: one has no name.
        SmartSimError: two have one name.
        ValueError: an ensemble is empty.
    """

    def __init__(self, *args: Entity) -> None:
        self._deployables = check_entities(args)

    @property
    def dbs(self) -> list[Database]:
        """The databases."""
        return [each for each in self._deployables if isinstance(each, Database)]

    @property
    def models(self) -> list[Model]:
        """The models that stand alone."""
        return [each for each in self._deployables if isinstance(each, Model)]

    @property
    def ensembles(self) -> list[Ensemble]:
        """The ensembles."""
        return [each for each in self._deployables if isinstance(each, Ensemble)]

    @property
    def all_entity_lists(self) -> list[Ensemble | Database]:
        """The ensembles, then the databases."""
        return [*self.ensembles, *self.dbs]

    @property
    def has_deployable(self) -> bool:
        """Whether there is anything."""
        return bool(self._deployables)

    @property
    def has_db_objects(self) -> bool:
        """Whether any of them has ML models or scripts."""
        members = [member for ensemble in self.ensembles for member in ensemble]
        each: list[Model | Ensemble] = [*self.models, *self.ensembles, *members]
        return any(any(entity.db_models) or any(entity.db_scripts) for entity in each)

    def __str__(self) -> str:
        text = ""
        if self.ensembles:
            text += "=== Ensembles ===\n"
            for ensemble in self.ensembles:
                text += f"{ensemble.name}\nMembers: {len(ensemble)}\nBatch Launch: {ensemble.batch}\n"
                text += f"{ensemble.batch_settings}\n" if ensemble.batch else ""
            text += "\n"
        if self.models:
            text += "=== Models ===\n"
            for model in self.models:
                text += f"{model.name}\n"
                text += f"{model.batch_settings}\n" if model.batch_settings else ""
                text += f"{model.run_settings}\n"
                params: dict[str, Any] = dict(model.params)
                text += f"Parameters: \n{fmt_dict(params)}\n" if params else ""
            text += "\n"
        for database in self.dbs:
            text += f"=== Database ===\nShards: {database.num_shards}\nPort: {database.ports[0]}\n"
            text += f"Network: {database.interfaces}\nBatch Launch: {database.batch}\n"
            text += f"{database.batch_settings}\n" if database.batch else ""
        return text + "\n"
