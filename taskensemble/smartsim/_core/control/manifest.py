"""The entities of one start, checked and sorted by kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.errors import InputError
from taskensemble.plan import check_entities
from taskensemble.smartsim._core.utils.helpers import create_short_id_str, fmt_dict

Data = TypeVar("Data")
Other = TypeVar("Other")

TELEMETRY = ".smartsim/telemetry"
"""Folder in an experiment's for what is told of its runs."""
MANIFEST_FILENAME = "manifest.json"


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
    def deployables(self) -> list[Entity]:
        """All of them, as they were given."""
        return list(self._deployables)

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


class _LaunchedManifestMetadata(NamedTuple):
    """Which run of which experiment it was, and where its files are."""

    run_id: str
    exp_name: str
    exp_path: str
    launcher_name: str

    @property
    def exp_telemetry_subdirectory(self) -> Path:
        """Of the experiment."""
        return Path(self.exp_path, TELEMETRY)

    @property
    def run_telemetry_subdirectory(self) -> Path:
        """Of the run."""
        return self.exp_telemetry_subdirectory / self.exp_name / self.run_id

    @property
    def manifest_file_path(self) -> Path:
        """The file that lists the experiment's runs."""
        return self.exp_telemetry_subdirectory / MANIFEST_FILENAME


@dataclass(frozen=True)
class LaunchedManifest(Generic[Data]):
    """The entities of a run, each with something that belongs to it; ensembles and databases with that of each member."""

    metadata: _LaunchedManifestMetadata
    models: tuple[tuple[Any, Data], ...]
    ensembles: tuple[tuple[Any, tuple[tuple[Any, Data], ...]], ...]
    databases: tuple[tuple[Any, tuple[tuple[Any, Data], ...]], ...]

    def map(self, func: Callable[[Data], Other]) -> LaunchedManifest[Other]:
        """The same entities, with what `func` makes of what belongs to each."""

        def mapped(pairs: Iterable[tuple[Any, Data]]) -> tuple[tuple[Any, Other], ...]:
            return tuple((entity, func(data)) for entity, data in pairs)

        return LaunchedManifest(
            self.metadata,
            mapped(self.models),
            tuple((ensemble, mapped(pairs)) for ensemble, pairs in self.ensembles),
            tuple((database, mapped(pairs)) for database, pairs in self.databases),
        )


@dataclass(frozen=True)
class LaunchedManifestBuilder(Generic[Data]):
    """Collects the entities of a run for a `LaunchedManifest`."""

    exp_name: str
    exp_path: str
    launcher_name: str
    run_id: str = field(default_factory=create_short_id_str)
    _models: list[tuple[Any, Data]] = field(default_factory=list, init=False)
    _ensembles: list[tuple[Any, tuple[tuple[Any, Data], ...]]] = field(default_factory=list, init=False)
    _databases: list[tuple[Any, tuple[tuple[Any, Data], ...]]] = field(default_factory=list, init=False)

    @property
    def _metadata(self) -> _LaunchedManifestMetadata:
        return _LaunchedManifestMetadata(self.run_id, self.exp_name, self.exp_path, self.launcher_name)

    @property
    def exp_telemetry_subdirectory(self) -> Path:
        """Folder for what is told of the experiment's runs."""
        return self._metadata.exp_telemetry_subdirectory

    @property
    def run_telemetry_subdirectory(self) -> Path:
        """Folder for what is told of this run."""
        return self._metadata.run_telemetry_subdirectory

    def add_model(self, model: Any, data: Data) -> None:
        """Add a model and what belongs to it."""
        self._models.append((model, data))

    def add_ensemble(self, ens: Any, data: Sequence[Data]) -> None:
        """Add an ensemble and what belongs to each member.

        Raises:
            ValueError: there are no members, or more or fewer than data.
        """
        self._ensembles.append((ens, _paired("ens", ens, data)))

    def add_database(self, db_: Any, data: Sequence[Data]) -> None:
        """Add a database and what belongs to each server.

        Raises:
            ValueError: as for an ensemble.
        """
        self._databases.append((db_, _paired("db_", db_, data)))

    def finalize(self) -> LaunchedManifest[Data]:
        """What was collected."""
        return LaunchedManifest(self._metadata, tuple(self._models), tuple(self._ensembles), tuple(self._databases))


def _paired(argument: str, entity: Any, data: Sequence[Data]) -> tuple[tuple[Any, Data], ...]:
    members = list(entity.entities)
    if not members:
        raise InputError(f"{argument}={entity.name!r}: Cannot map data to an empty entity sequence; add members first")
    if len(members) != len(data):
        raise InputError(
            f"{argument}={entity.name!r}: Cannot map data sequence of length {len(data)} to entity sequence of length "
            f"{len(members)}"
        )
    return tuple(zip(members, data, strict=True))
