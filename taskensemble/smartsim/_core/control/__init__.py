"""What is started together."""

from __future__ import annotations

from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.plan import check_entities


class Manifest:
    """Entities that are started together, checked and by kind.

    Raises:
        TypeError, AttributeError, SmartSimError, ValueError: as `taskensemble.plan.check_entities`.
    """

    def __init__(self, *entities: Entity) -> None:
        self._entities = check_entities(entities)

    @property
    def dbs(self) -> list[Database]:
        """The databases."""
        return [entity for entity in self._entities if isinstance(entity, Database)]

    @property
    def models(self) -> list[Model]:
        """The models."""
        return [entity for entity in self._entities if isinstance(entity, Model)]

    @property
    def ensembles(self) -> list[Ensemble]:
        """The ensembles."""
        return [entity for entity in self._entities if isinstance(entity, Ensemble)]

    @property
    def all_entity_lists(self) -> list[Ensemble | Database]:
        """The ensembles and the databases."""
        return [*self.ensembles, *self.dbs]

    @property
    def has_deployable(self) -> bool:
        """Whether there is anything."""
        return bool(self._entities)

    @property
    def has_db_objects(self) -> bool:
        """Whether one of them brings an ML model or a script."""
        listed: list[Model | Ensemble] = [
            *self.models,
            *self.ensembles,
            *(member for ensemble in self.ensembles for member in ensemble),
        ]
        return any(any(entity.db_models) or any(entity.db_scripts) for entity in listed)


__all__ = ["Manifest"]
