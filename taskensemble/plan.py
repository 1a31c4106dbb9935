"""Descriptions to records: what a start will do, as data.

The plan is pure: the same descriptions and inputs give the same records, and nothing is read, made or started. `preview`
prints one, `start` writes one. Members of an ensemble that nobody touched share a template and are made while they are
iterated over, so a plan of 100,000 members is cheap.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from taskensemble.engine.records import (
    AssetRecord,
    ColocatedRecord,
    CommandRecord,
    DatabaseUseRecord,
    EntityRecord,
    FilesRecord,
    MemberRecord,
    PolicyRecord,
    ResourcesRecord,
    RunRecord,
    TemplateRecord,
)
from taskensemble.engine.secret_names import is_secret
from taskensemble.entity import (
    Asset,
    ColocatedDatabase,
    Database,
    Ensemble,
    Entity,
    MLModel,
    Model,
    Policy,
    Resources,
)
from taskensemble.entity.database import UNNAMED
from taskensemble.entity.model import DEFAULT_SOCKET
from taskensemble.errors import (
    DatabaseError,
    DatabaseIdentifierError,
    EntityExistsError,
    InputError,
    InputTypeError,
)
from taskensemble.inputs import Inputs
from taskensemble.settings import RunSettings

if TYPE_CHECKING:
    from taskensemble.settings import BatchSettings


WEEK = 7 * 86400.0
HOUR = 3600.0
"""Seconds that a record is kept after its run ended."""


@dataclass(frozen=True)
class _PlannedEntity:
    """An entity as it was planned: what somebody does to its members later is for the next plan."""

    entity: Model | Ensemble
    slots: Sequence[Model | int]
    templates: Mapping[int, int]
    """Position of a member -> its template; -1: of those that nobody touched."""


class PlannedMembers:
    """The members of a plan, made while they are iterated over; any number of times."""

    def __init__(self, entities: Sequence[_PlannedEntity]) -> None:
        self._entities = entities

    def __len__(self) -> int:
        return sum(len(planned.slots) for planned in self._entities)

    def __iter__(self) -> Iterator[MemberRecord]:
        index = itertools.count()
        for number, planned in enumerate(self._entities):
            entity = planned.entity
            for position, slot in enumerate(planned.slots):
                if isinstance(entity, Model):
                    own = entity.path if entity.path_given else None
                    yield _member(entity, next(index), number, planned.templates[0], own)
                elif isinstance(slot, int):
                    yield _generated_member(entity, slot, next(index), number, planned.templates[-1])
                else:
                    own = slot.path if slot.path != os.path.join(entity.path, slot.name) else None
                    yield _member(slot, next(index), number, planned.templates[position], own)


@dataclass(frozen=True)
class Plan:
    """What a start will do.

    Attributes:
        run: the run with its entities and templates.
        members: its members, in order.
        assets: digest -> bytes of what goes into the store.
        secrets: `<template>:<variable>` -> value, of variables that no record shows.
        batches: batch queue -> the settings of the batch job that serves it.
    """

    run: RunRecord
    members: PlannedMembers
    assets: Mapping[str, bytes]
    batches: Mapping[str, BatchSettings]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def check_entities(entities: Iterable[object]) -> list[Entity]:
    """The arguments of a start, a stop or the like, checked.

    Raises:
        InputTypeError: something is no model, ensemble or database.
        AttributeError: one has no name.
        EntityExistsError: two have one name.
        InputError: an ensemble is empty.
    """
    checked: list[Entity] = []
    for entity in entities:
        if not isinstance(entity, Entity):
            raise InputTypeError(
                f"{entity!r} is a {type(entity).__name__}; give models, ensembles and databases of the experiment"
            )
        checked.append(entity)
    names: set[str] = set()
    for entity in checked:
        if not entity.name:
            raise AttributeError("Entity has no name. Please set name attribute.")
        if entity.name in names:
            raise EntityExistsError(
                f"User provided two entities with the same name: {entity.name!r}; rename one of them"
            )
        names.add(entity.name)
    for entity in checked:
        if isinstance(entity, Ensemble) and not len(entity):
            raise InputError(f"{entity.name} is empty. Nothing to launch. Add models to it with add_model.")
    return checked


def plan(
    entities: Iterable[Entity],
    inputs: Inputs,
    *,
    experiment: str,
    path: str,
    run_id: str,
    created: float,
    databases: Sequence[str] | None = (),
    export_env: Mapping[str, str] | None = None,
    overwrite: bool = False,
    generate: bool = True,
    generated: Collection[str] = (),
    completed: Collection[str] = (),
    together: bool = False,
    tag: str | None = None,
    allow_unknown_tags: bool | None = None,
    driver: str = "",
    versions: Mapping[str, str] | None = None,
    keep: float = WEEK,
    parent: str | None = None,
    wait_for_worker: float = HOUR,
    allocated: bool = False,
) -> Plan:
    """Make the records of one start.

    Args:
        entities: models and ensembles; databases among them are passed over.
        inputs: what `read_inputs` found for them.
        experiment, path: name and folder of the experiment.
        run_id: of the run.
        created: Unix time.
        databases: identifiers of the standard databases that will be active, `orchestrator` being the unnamed one; None: only
            folders are made, so databases and ML assets are left out.
        export_env: variables of the driver that members get.
        overwrite, generate: of the run's record.
        generated: names of entities whose folders were made ahead.
        completed: names of entities that completed in an earlier start, for `depends_on`.
        together: all members of each entity run at the same time.
        tag, allow_unknown_tags: instead of those that files were attached with.
        driver, versions, keep, parent, wait_for_worker: of the run's record.
        allocated: members run in allocations alone, as a cluster's launcher has it.

    Raises:
        InputError: an entity without run settings, a dependency that is not started, or a circle of them.
        DatabaseError: ML assets, and no database for them.
        DatabaseIdentifierError: a colocated database has the identifier of an active one.
        EntityExistsError: two members of one name in an ensemble.
    """
    started = [entity for entity in entities if isinstance(entity, (Model, Ensemble))]
    _check_members(started)
    positions = {entity.name: number for number, entity in enumerate(started)}
    after = [_dependencies(entity, positions, completed) for entity in started]
    _check_circles(started, after)

    maker = _Templates(
        inputs,
        None if databases is None else tuple(databases),
        dict(export_env or {}),
        tag,
        allow_unknown_tags,
        allocated=allocated,
    )
    records: list[EntityRecord] = []
    planned: list[_PlannedEntity] = []
    batches: dict[str, BatchSettings] = {}
    first = 0
    for number, entity in enumerate(started):
        queue = ""
        if entity.batch_settings:
            queue = f"batch-{run_id}-{number}"
            batches[queue] = entity.batch_settings
            _check_time(entity, entity.batch_settings)
        slots = [entity] if isinstance(entity, Model) else list(entity.members.slots())
        _check_enough(entity, len(slots))
        planned.append(_PlannedEntity(entity, slots, _member_templates(entity, slots, maker, queue)))
        records.append(
            EntityRecord(
                index=number,
                name=entity.name,
                kind="Model" if isinstance(entity, Model) else "Ensemble",
                path=os.path.abspath(entity.path),
                first=first,
                size=len(slots),
                after=after[number],
                on_failure=entity.policy.on_failure,
                enough=entity.policy.enough,
                together=together,
                generated=entity.name in generated,
            )
        )
        first += len(slots)
    run = RunRecord(
        run_id=run_id,
        experiment=experiment,
        path=path,
        created=created,
        entities=tuple(records),
        templates=tuple(maker.templates),
        overwrite=overwrite,
        generate=generate,
        driver=driver,
        versions=dict(versions or {}),
        parent=parent,
        keep=keep,
        wait_for_worker=wait_for_worker,
    )
    return Plan(run, PlannedMembers(planned), maker.stored, batches, maker.secrets)


def _check_enough(entity: Model | Ensemble, size: int) -> None:
    if entity.policy.enough is not None and entity.policy.enough > size:
        raise InputError(
            f"enough={entity.policy.enough} of {entity.name!r} is more than its {size} members; give {size} or less, or "
            "leave it out"
        )


# Members


def _member(model: Model, index: int, entity: int, template: int, path: str | None) -> MemberRecord:
    return MemberRecord(
        index=index,
        entity=entity,
        template=template,
        name=model.name,
        params=model.params,
        args=model.argument_tail,
        path=None if path is None else os.path.abspath(path),
    )


_VALID_MEMBER = MemberRecord(index=0, entity=0, template=0, name="m")


def _generated_member(ensemble: Ensemble, slot: int, index: int, entity: int, template: int) -> MemberRecord:
    """A member that nobody touched: what `_member` gives for it, without making the model."""
    name = f"{ensemble.name}_{slot}"
    params = ensemble.member_params(slot)
    # The values are our own and right by construction; validating 100,000 of them would take most of the plan's time.
    fields = {
        "index": index,
        "entity": entity,
        "template": template,
        "name": name,
        "params": params,
        "args": ensemble.argument_tokens(params),
        "path": os.path.abspath(ensemble.member_path(slot, name)) if ensemble.shard else None,
    }
    return _VALID_MEMBER.model_copy(update=fields)


def _member_templates(
    entity: Model | Ensemble, slots: Sequence[Model | int], maker: _Templates, queue: str
) -> dict[int, int]:
    if isinstance(entity, Model):
        return {0: maker.add(entity, queue, shared=False)}
    templates: dict[int, int] = {}
    names: set[str] = set()
    for position, slot in enumerate(slots):
        name = f"{entity.name}_{slot}" if isinstance(slot, int) else slot.name
        if name in names:
            raise EntityExistsError(f"ensemble {entity.name!r} has two members named {name!r}; rename one of them")
        names.add(name)
        if isinstance(slot, Model):
            templates[position] = maker.add(slot, queue, shared=True)
        elif -1 not in templates:
            templates[-1] = maker.add(entity.prototype, queue, shared=True)
    return templates


def _check_members(started: Sequence[Model | Ensemble]) -> None:
    """Refuse a model that is started as a member of an ensemble as well: both would run in one folder."""
    for model in started:
        for ensemble in started:
            if (
                isinstance(model, Model)
                and isinstance(ensemble, Ensemble)
                and any(model is each for each in ensemble.members.made())
            ):
                raise EntityExistsError(
                    f"{model.name!r} is a member of {ensemble.name!r}, which is started with it; pass one of the two"
                )


# Dependencies


def _dependencies(
    entity: Model | Ensemble, positions: Mapping[str, int], completed: Collection[str]
) -> tuple[int, ...]:
    after = []
    for other in entity.depends_on:
        if isinstance(other, Database):
            raise InputError(
                f"depends_on: {entity.name!r} names the database {other.name!r}; databases start before all members"
            )
        if other.name in positions:
            after.append(positions[other.name])
        elif other.name not in completed:
            raise InputError(
                f"depends_on: {entity.name!r} waits for {other.name!r}, which is not started with it and has not completed; pass "
                "both to one start"
            )
    return tuple(after)


def _check_circles(entities: Sequence[Entity], after: Sequence[tuple[int, ...]]) -> None:
    waiting = dict(enumerate(after))
    while free := [number for number, others in waiting.items() if not any(other in waiting for other in others)]:
        for number in free:
            del waiting[number]
    if waiting:
        circle = ", ".join(repr(entities[number].name) for number in waiting)
        raise InputError(f"depends_on: {circle} wait for each other; none could ever start")


# Templates


class _Templates:
    """The templates of a run, each once."""

    def __init__(
        self,
        inputs: Inputs,
        databases: tuple[str, ...] | None,
        export_env: dict[str, str],
        tag: str | None,
        allow_unknown_tags: bool | None,
        *,
        allocated: bool,
    ) -> None:
        self.templates: list[TemplateRecord] = []
        self.stored: dict[str, bytes] = {}
        self.secrets: dict[str, str] = {}
        self._inputs = inputs
        self._databases = databases
        self._export_env = export_env
        self._tag = tag
        self._allow_unknown_tags = allow_unknown_tags
        self._allocated = allocated
        self._numbers: dict[Any, int] = {}
        self._assets: dict[Asset, AssetRecord] = {}

    def add(self, model: Model, queue: str, *, shared: bool) -> int:
        """The number of the model's template. `shared`: its colocated database may serve other members."""
        settings: Any = model.run_settings
        if settings is None:
            raise InputError(f"run_settings: {model.name!r} has none; say how it is run with create_run_settings")
        if not isinstance(settings, RunSettings):
            raise InputTypeError(
                f"run_settings: {settings!r} of {model.name!r} is a {type(settings).__name__}; make them with create_run_settings"
            )
        command = _command(model)
        # A variable without a value is empty for a plain program; a run command passes on the one of its own environment.
        own = {name: value for name, value in settings.env_vars.items() if value is not None or not command.launcher}
        env = self._export_env | {name: "" if value is None else str(value) for name, value in own.items()}
        incoming = _incoming(model)
        # Equal ingredients make equal templates: comparing them is cheaper than making a record of each member to compare.
        key = (
            repr(command),
            tuple(env.items()),
            model.files,
            model.resources,
            model.policy,
            model.colocated_database and (repr(model.colocated_database), shared),
            tuple(model.db_models),
            tuple(model.db_scripts),
            model.query_key_prefixing(),
            incoming,
            queue,
        )
        if key not in self._numbers:
            number = self._numbers[key] = len(self.templates)
            secret = {name: value for name, value in env.items() if is_secret(name, value)}
            self.secrets |= {f"{number}:{name}": value for name, value in secret.items()}
            self.templates.append(
                TemplateRecord(
                    command=command,
                    env={name: value for name, value in env.items() if name not in secret},
                    secrets=tuple(secret),
                    files=self._files(model),
                    resources=_resources(model.resources, command, allocated=self._allocated and not queue),
                    policy=_policy(model.policy),
                    databases=self._database_uses(model, shared),
                    assets=self._asset_records(model),
                    key_prefixing=model.query_key_prefixing(),
                    incoming=incoming,
                    batch_queue=queue,
                )
            )
        return self._numbers[key]

    def _files(self, model: Model) -> FilesRecord:
        files = model.files
        if files is None:
            return FilesRecord()
        allowed = self._allow_unknown_tags
        return FilesRecord(
            copy=files.copy,
            symlink=files.link,
            configure=files.tagged,
            tag=self._tag or files.tag,
            allow_unknown_tags=files.allow_unknown_tags if allowed is None else allowed,
        )

    def _database_uses(self, model: Model, shared: bool) -> tuple[DatabaseUseRecord, ...]:
        if self._databases is None:
            return ()
        uses = [
            DatabaseUseRecord(identifier=identifier, suffix="" if identifier == UNNAMED else identifier)
            for identifier in self._databases
        ]
        colocated = model.colocated_database
        if colocated is not None:
            if any(use.suffix == colocated.identifier for use in uses):
                raise DatabaseIdentifierError(
                    f"Database identifier {colocated.identifier!r} of the colocated database of {model.name!r} has already been "
                    "used. Pass in a unique name for db_identifier"
                )
            uses.append(
                DatabaseUseRecord(
                    identifier=colocated.identifier,
                    suffix=colocated.identifier,
                    colocated=_colocated(colocated, shared and model.query_key_prefixing()),
                )
            )
        return tuple(uses)

    def _asset_records(self, model: Model) -> tuple[AssetRecord, ...]:
        if self._databases is None:
            return ()
        assets: list[Asset] = [*model.db_models, *model.db_scripts]
        if assets and not self._databases and model.colocated_database is None:
            raise DatabaseError(
                f"{model.name!r} has the ML asset {assets[0].name!r}, and there is no database for it; start one with it "
                "(create_database), or colocate one (colocate_db_tcp)"
            )
        for asset in assets:
            if asset not in self._assets:
                self._assets[asset] = self._asset_record(asset)
        return tuple(self._assets[asset] for asset in assets)

    def _asset_record(self, asset: Asset) -> AssetRecord:
        content = self._inputs.contents[asset]
        if content.data is not None:
            self.stored[content.digest] = content.data
        record: dict[str, Any] = {
            "name": asset.name,
            "kind": "script",
            "device": asset.device.upper(),
            "devices_per_node": asset.devices_per_node,
            "first_device": asset.first_device,
            "digest": content.digest,
            "size": content.size,
            "path": content.path,
        }
        if isinstance(asset, MLModel):
            record |= {
                "kind": "model",
                "backend": asset.backend,
                "batch_size": asset.batch_size,
                "min_batch_size": asset.min_batch_size,
                "min_batch_timeout": asset.min_batch_timeout,
                "tag": asset.tag,
                "inputs": tuple(asset.inputs),
                "outputs": tuple(asset.outputs),
            }
        return AssetRecord(**record)


def _command(model: Model) -> CommandRecord:
    """The command without the arguments that differ from member to member."""
    settings: Any = model.run_settings
    tail = model.argument_tail
    if tail:
        settings = copy.copy(settings)
        settings.exe_args = settings.exe_args[: -len(tail)]
    command: CommandRecord = settings.command()
    programs = (settings, *getattr(settings, "mpmd", ()))
    if any(is_secret(name, value) for program in programs for name, value in program.env_vars.items()):
        command = _shown_by_name(settings, command.launcher).command()
    return command


def _shown_by_name(settings: Any, launcher: str) -> Any:
    """Settings whose command line has the names of secret variables alone: their values come with the launcher's environment."""
    shown = copy.copy(settings)
    by_name = launcher in ("mpirun", "mpiexec", "orterun", "palsmpiexec", "jsrun")
    # srun and aprun pass on all of their environment.
    shown.env_vars = {
        name: None if is_secret(name, value) else value
        for name, value in settings.env_vars.items()
        if by_name or not is_secret(name, value)
    }
    if getattr(settings, "mpmd", None):
        shown.mpmd = [_shown_by_name(program, launcher) for program in settings.mpmd]
    return shown


def _incoming(model: Model) -> tuple[str, ...]:
    """The names that SSKEYIN lists. Nothing writes under an ensemble's own name, so its members' stand for it."""
    names: dict[str, None] = {}
    for entity in model.incoming_entities:
        if isinstance(entity, Ensemble):
            names |= dict.fromkeys(entity.member_names())
        else:
            names[entity.name] = None
    return tuple(names)


def _check_time(entity: Model | Ensemble, settings: BatchSettings) -> None:
    """Refuse members that ask for more time than their job has: it would wait and run for nothing."""
    longest = settings.walltime_seconds
    models = [entity] if isinstance(entity, Model) else [entity.prototype, *entity.members.made()]
    for model in models:
        if longest is not None and model.resources.seconds > longest:
            raise InputError(
                f"resources: time={model.resources.seconds:g} s of {model.name!r} is more than the {longest:g} s that its "
                "batch job asks for; give create_batch_settings a longer time=, or ask for less"
            )


def _resources(resources: Resources, command: CommandRecord, *, allocated: bool) -> ResourcesRecord:
    cpus = resources.cpus
    nodes = resources.nodes or command.nodes or 1
    if cpus is None:
        tasks = command.tasks_per_node or -(-(command.tasks or 1) // nodes)
        cpus = tasks * (command.cpus_per_task or 1)
    return ResourcesRecord(
        cpus=cpus,
        nodes=nodes,
        gpus=resources.gpus,
        memory_mb=resources.memory_mb,
        whole_node=resources.whole_node,
        tags=resources.tags,
        het_groups=tuple(
            int(group)
            for item in command.head
            if item.startswith("--het-group=")
            for group in item.partition("=")[2].split(",")
            if group.isdigit()
        ),
        time=resources.seconds,
        # A member with an allocation's id runs there, wherever its worker is.
        allocated=allocated and not any(item.startswith("--jobid") for item in command.head),
    )


def _policy(policy: Policy) -> PolicyRecord:
    return PolicyRecord(
        retries=policy.retries,
        retry_delay=policy.retry_delay,
        retry_on=None if policy.retry_on is None else tuple(sorted(policy.retry_on)),
        restart_args=policy.restart_args,
        walltime=policy.walltime,
        warn_before=policy.warn_before,
        grace=policy.grace,
        output_limit=policy.output_limit,
        keep_outputs=policy.keep_outputs,
    )


def _colocated(database: ColocatedDatabase, shared: bool) -> ColocatedRecord:
    return ColocatedRecord(
        transport=database.transport,
        port=database.port,
        interfaces=database.interfaces,
        unix_socket=None if database.unix_socket == DEFAULT_SOCKET else database.unix_socket,
        socket_permissions=database.socket_permissions,
        cpus=database.cpus,
        custom_pinning=database.pinning,
        debug=database.debug,
        settings=dict(database.settings),
        shared=shared,
    )
