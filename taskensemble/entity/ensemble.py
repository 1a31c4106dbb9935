"""An ensemble: models that are started, watched and stopped as one."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, overload

from taskensemble.checked import checked
from taskensemble.entity.assets import Asset, MLModel, Script
from taskensemble.entity.entity import Entity
from taskensemble.entity.files import AttachedFiles, Paths
from taskensemble.entity.model import (
    DEFAULT_SOCKET,
    Model,
    argument_names,
    attach_by_old_names,
    check_new_asset,
    function_script,
)
from taskensemble.entity.parameters import argument_tokens, check_names
from taskensemble.entity.policy import Policy, Resources
from taskensemble.entity.samples import read_samples
from taskensemble.entity.strategies import (
    Listed,
    ParameterSets,
    Replicated,
    Strategy,
    check_seed,
    check_strategy,
    expand,
)
from taskensemble.errors import EntityExistsError, InputError, InputTypeError

if TYPE_CHECKING:
    from taskensemble.settings import BatchSettings, RunSettings

SHARD = 1000
"""Members a folder: an ensemble of more generated members than this has a folder level more."""


class Members(MutableSequence[Model]):
    """The members of an ensemble. A generated one is made when somebody looks at it, from the ensemble's prototype."""

    def __init__(self, generate: Callable[[int], Model], size: int) -> None:
        self._generate = generate
        self._slots: list[Model | int] = list(range(size))

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> list[Model]: ...
    def __getitem__(self, index: int | slice) -> Model | list[Model]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        slot = self._slots[index]
        if isinstance(slot, int):
            slot = self._slots[index] = self._generate(slot)
        return slot

    def __setitem__(self, index: Any, value: Any) -> None:
        self._slots[index] = value

    def __delitem__(self, index: int | slice) -> None:
        del self._slots[index]

    def insert(self, index: int, value: Model) -> None:
        self._slots.insert(index, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def slots(self) -> Iterator[Model | int]:
        """The members that were made, and the numbers of those that were not."""
        return iter(self._slots)

    def slot(self, index: int) -> Model | int:
        """The member at `index`, or its number if it was not made."""
        return self._slots[index]

    def made(self) -> Iterator[Model]:
        """The members that were made or added."""
        return (slot for slot in self._slots if isinstance(slot, Model))


@checked
class Ensemble(Entity):
    """Models that are started, watched and stopped as one.

    Its members are generated from parameters, from samples, or as replicas, with a copy of the run settings each; or it is
    empty and models are added to it. A generated member is `<name>_<i>`, counted from 0, in a folder of that name below the
    ensemble's, and puts its name before the keys it writes.

    Args:
        name: of the ensemble and the beginning of its members' names.
        params: parameter -> text, number, list of those, or (low, high) for the samplers. A name alone takes its values from
            `params_as_args`; a list of names names the columns of `samples`.
        path: the ensemble's folder; None: one below the experiment's.
        params_as_args: names of parameters that become arguments of the program, or a dict of such parameters and values.
        batch_settings: to run the members inside one batch job.
        run_settings: how a member's program is run.
        perm_strat: all_perm, step, random, latin_hypercube, sobol, or a function of (names, values, n_models).
        replicas: how many members each parameter set has. With `random` and without `n_models`: how many sets are drawn.
        n_models: how many sets are drawn by `random`, `latin_hypercube`, `sobol`, or a function.
        seed: of the strategies that draw.
        samples: a table of parameter sets, one row a member: see `read_samples`.
        resources: what a member holds of a node: a dict of cpus, gpus, memory, whole_node, nodes, tags, time; see `Resources`.
        depends_on: entities of the same start that must have completed before.
        policy: retries, walltime, on_failure and the rest, as keywords: see `Policy`.

    Raises:
        InputError: parameters without run settings, run settings without parameters, samples or replicas, neither run nor batch
            settings, or values that cannot be used.
        InputTypeError: a value of a wrong type.
        UnsupportedError: no such strategy.
        UserStrategyError: a function returned no list of dicts.
        AttributeError: no name.
    """

    member_class: ClassVar[type[Model]] = Model

    def __init__(
        self,
        name: str,
        params: Mapping[str, Any] | str | Sequence[str] | None,
        path: str | os.PathLike[str] | None = None,
        params_as_args: str | Sequence[str] | Mapping[str, Any] | None = None,
        batch_settings: BatchSettings | None = None,
        run_settings: RunSettings | None = None,
        perm_strat: str | Strategy = "all_perm",
        *,
        replicas: int | None = None,
        n_models: int = 0,
        seed: int | None = None,
        samples: object = None,
        resources: Resources | Mapping[str, Any] | None = None,
        depends_on: Entity | Iterable[Entity] | None = None,
        **policy: Any,
    ) -> None:
        super().__init__(name, path, run_settings)
        check_strategy(perm_strat)
        self.batch_settings = batch_settings
        self.perm_strat = perm_strat
        self.replicas = _check_count("replicas", replicas)
        columns, self.params = _parameters(params, params_as_args)
        self.params_as_args = (
            argument_names(list(params_as_args) if isinstance(params_as_args, Mapping) else params_as_args) or []
        )
        self._db_models: list[MLModel] = []
        self._db_scripts: list[Script] = []
        self._prototype = self.member_class(
            name, {}, copy.deepcopy(run_settings), None, None, resources=resources, depends_on=depends_on, **policy
        )
        self._prototype.params_as_args = self.params_as_args
        self._prototype.enable_key_prefixing()
        self.depends_on = self._prototype.depends_on
        self._sets = self._expand(columns, samples, perm_strat, _check_count("n_models", n_models) or 0, seed)
        self.shard = SHARD if len(self._sets) > SHARD else 0
        self._members = Members(self._generate, len(self._sets))

    def _expand(
        self, columns: list[str] | None, samples: object, strategy: str | Strategy, n_models: int, seed: int | None
    ) -> ParameterSets:
        """One parameter set a member."""
        sets: ParameterSets
        replicas = self.replicas
        if samples is not None:
            if n_models:
                raise InputError(f"n_models={n_models} has no meaning with samples: each row is a member")
            if strategy != "all_perm":
                shown = getattr(strategy, "__name__", strategy)
                raise InputError(f"perm_strategy={shown!r} has no meaning with samples: each row is a member")
            check_seed(seed, strategy)
            sets = read_samples(samples, columns, self.params)
        elif columns is not None:
            raise InputError(
                f"params={columns!r} are names without values; give those in params_as_args={{name: values}}, or in samples"
            )
        elif self.params:
            if strategy == "random" and not n_models and replicas:
                n_models, replicas = replicas, None
            sets = expand(self.params, strategy, n_models=n_models, seed=seed)
        else:
            if n_models:
                raise InputError(
                    f"n_models={n_models} has no meaning without params; give replicas, or params to draw from"
                )
            check_seed(seed, self.perm_strat)
            return self._replicas_alone()
        if self.run_settings is None:
            raise InputError("params: members cannot be made without run_settings; give run_settings, or no params")
        self._check_argument_names(sets)
        return Replicated(sets, replicas) if replicas and replicas > 1 else sets

    def _replicas_alone(self) -> ParameterSets:
        if self.params_as_args:
            raise InputError(f"params_as_args={self.params_as_args!r} are not found in params, which is empty")
        if self.run_settings is not None:
            if not self.replicas:
                raise InputError(
                    "run_settings: an ensemble with run_settings needs 'params' or 'replicas' (1 or more) to expand into members"
                )
            return Listed([{}] * self.replicas)
        if self.batch_settings is None:
            raise InputError("run_settings, batch_settings: Ensemble must be provided batch settings or run settings")
        if self.replicas:
            raise InputError(
                f"replicas={self.replicas} needs run_settings; an ensemble of batch_settings alone begins empty"
            )
        return Listed([])

    def _check_argument_names(self, sets: ParameterSets) -> None:
        known = sets[0]
        for name in self.params_as_args:
            if name not in known:
                raise InputError(
                    f"params_as_args: {name!r} was not found in params ({', '.join(known)}); leave it out or add it"
                )

    def _generate(self, number: int) -> Model:
        member = self._prototype.copy_as(f"{self.name}_{number}", self._sets[number])
        member.place(self.member_path(number, member.name))
        return member

    def member_path(self, number: int, name: str) -> str:
        """The folder of the member at position `number`, if it has none of its own."""
        if self.shard:
            return os.path.join(self.path, str(number // self.shard), name)
        return os.path.join(self.path, name)

    def member_params(self, number: int) -> dict[str, str]:
        """The parameters that generated member `number` was or would be made with."""
        return self._sets[number]

    def member_names(self) -> Iterator[str]:
        """The names of its members, without making them."""
        return (self._name(slot) for slot in self._members.slots())

    def argument_tokens(self, params: Mapping[str, str]) -> tuple[str, ...]:
        """The arguments that a generated member with `params` has for itself."""
        tokens: list[str] = []
        for name in self.params_as_args:
            tokens += argument_tokens(name, (params[name],))
        return tuple(tokens)

    @property
    def parameter_sets(self) -> ParameterSets:
        """The parameters of the generated members."""
        return self._sets

    # Members

    @property
    def entities(self) -> MutableSequence[Model]:
        """The members: a list that makes each member when somebody looks at it."""
        return self._members

    @entities.setter
    def entities(self, models: Iterable[Model]) -> None:
        members = Members(self._generate, 0)
        members.extend(models)
        self._members = members

    @property
    def models(self) -> list[Model]:
        """The members, in a list of its own."""
        return list(self._members)

    @property
    def members(self) -> Members:
        """The members, with those that were not looked at yet as numbers in `slots()`."""
        return self._members

    @property
    def prototype(self) -> Model:
        """What the members that were not looked at yet are copies of."""
        return self._prototype

    def add_model(self, model: Model) -> None:
        """Add a model. It gets the ML assets of the ensemble and, unless it has one of its own, a folder below the ensemble's.

        Raises:
            InputTypeError: it is no model.
            EntityExistsError: there is a member of that name.
            UnsupportedError: it has an ML asset of the name of one of the ensemble's.
        """
        if not isinstance(model, Model):
            raise InputTypeError(f"model: Argument to add_model was of type {type(model)}, not Model")
        if self._position(model.name) is not None:
            raise EntityExistsError(f"Model {model.name} already exists in ensemble {self.name}")
        for ml_model in self._db_models:
            check_new_asset(ml_model, model.db_models)
        for script in self._db_scripts:
            check_new_asset(script, model.db_scripts)
        for ml_model in self._db_models:
            model.add_ml_model_object(ml_model)
        for script in self._db_scripts:
            model.add_script_object(script)
        self._members.append(model)
        model.place(self.member_path(len(self._members) - 1, model.name))

    def _position(self, name: str) -> int | None:
        """Where the member of that name is; None: nowhere."""
        stem, _, digits = name.rpartition("_")
        # The number of the generated member of that name, which is its position too unless members were taken out.
        number = int(digits) if stem == self.name and digits.isdecimal() and str(int(digits)) == digits else -1
        if 0 <= number < len(self) and self._members.slot(number) == number:
            return number
        for position, slot in enumerate(self._members.slots()):
            if slot == number if isinstance(slot, int) else slot.name == name:
                return position
        return None

    def _name(self, slot: Model | int) -> str:
        return f"{self.name}_{slot}" if isinstance(slot, int) else slot.name

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._members)

    @overload
    def __getitem__(self, key: str | int) -> Model: ...
    @overload
    def __getitem__(self, key: slice) -> list[Model]: ...
    def __getitem__(self, key: str | int | slice) -> Model | list[Model]:
        """A member by its name, or by its position; members by a slice of positions.

        Raises:
            KeyError, IndexError: there is no such member
            InputTypeError: neither a name nor a position
        """
        if isinstance(key, slice):
            return self._members[key]
        if isinstance(key, int):
            if not -len(self) <= key < len(self):
                raise IndexError(f"no member {key} in ensemble {self.name!r} of {len(self)} members")
            return self._members[key]
        if not isinstance(key, str):
            raise InputTypeError(
                f"ensemble {self.name!r}: {key!r} is a {type(key).__name__}; give a member's name or position"
            )
        position = self._position(key)
        if position is None:
            raise KeyError(f"no member {key!r} in ensemble {self.name!r} of {len(self)} members")
        return self._members[position]

    def __contains__(self, member: object) -> bool:
        return self._position(member.name if isinstance(member, Model) else str(member)) is not None

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    @property
    def batch(self) -> Any:
        """The batch settings, if the members run inside one batch job; else something false."""
        return self.batch_settings

    def set_path(self, path: str) -> None:
        """Choose the ensemble's folder. Members without a folder of their own move with it."""
        super().set_path(path)
        self._replace_members()

    def place(self, path: str) -> None:
        """Give it this folder unless one was chosen. Members without a folder of their own move with it."""
        super().place(path)
        self._replace_members()

    def _replace_members(self) -> None:
        for number, slot in enumerate(self._members.slots()):
            if isinstance(slot, Model):
                slot.place(self.member_path(number, slot.name))

    # What reaches every member

    def _each(self) -> Iterator[Model]:
        """The prototype of the members to come, and the members that are there."""
        yield self._prototype
        yield from self._members.made()

    @property
    def policy(self) -> Policy:
        """What happens around the attempts of its members, and around their failures."""
        return self._prototype.policy

    @property
    def resources(self) -> Resources:
        """What a generated member holds of a node."""
        return self._prototype.resources

    def register_incoming_entity(self, incoming_entity: Entity) -> None:
        """Let every member read what another entity writes.

        Raises:
            EntityExistsError: a member has one of that name registered already; then none gets it.
            InputTypeError: it is no entity.
        """
        for model in self._each():
            model.check_incoming(incoming_entity)
        for model in self._each():
            model.register_incoming_entity(incoming_entity)

    def enable_key_prefixing(self) -> None:
        """Let the clients in every member put its name before the keys they write."""
        for model in self._each():
            model.enable_key_prefixing()

    def disable_key_prefixing(self) -> None:
        """Let the clients in every member write keys as they are."""
        for model in self._each():
            model.disable_key_prefixing()

    def query_key_prefixing(self) -> bool:
        """Whether the clients in every member put its name before the keys they write."""
        lazy = any(isinstance(slot, int) for slot in self._members.slots())
        return (self._prototype.query_key_prefixing() or not lazy) and all(
            model.query_key_prefixing() for model in self._members.made()
        )

    def attach_generator_files(
        self,
        to_copy: Paths = None,
        to_symlink: Paths = None,
        to_configure: Paths = None,
        *,
        tag: str = ";",
        allow_unknown_tags: bool = False,
    ) -> None:
        """Say what every member that is there finds in its folder: see `Model.attach_generator_files`.

        Raises:
            InputError: there are no members yet; else as `Model.attach_generator_files`.
        """
        files = AttachedFiles.of(to_copy, to_symlink, to_configure, tag=tag, allow_unknown_tags=allow_unknown_tags)
        if not len(self):
            raise InputError(f"ensemble {self.name!r} has no members that files could be attached to; add models first")
        for model in self._each():
            model.files = files

    def attach_generator_file(
        self,
        to_copy: Paths = None,
        to_symlink: Paths = None,
        to_config: Paths = None,
        *,
        to_configure: Paths = None,
        **options: Any,
    ) -> None:
        """`attach_generator_files` under its singular name, with `to_config` for `to_configure`."""
        attach_by_old_names(self.attach_generator_files, to_copy, to_symlink, to_config, to_configure, options)

    @property
    def attached_files_table(self) -> str:
        """A table of the files attached to each member."""
        if not len(self):
            return "The ensemble is empty, no files to show."
        from tabulate import tabulate

        rows = [
            [self._name(slot), (self._prototype if isinstance(slot, int) else slot).attached_files_table]
            for slot in self._members.slots()
        ]
        return str(tabulate(rows, headers=["Model name", "Files"], tablefmt="grid"))

    def print_attached_files(self) -> None:
        """Print the table of the files attached to each member."""
        print(self.attached_files_table)

    # ML assets

    @property
    def db_models(self) -> Iterator[MLModel]:
        """The ML models added to the ensemble."""
        return iter(tuple(self._db_models))

    @property
    def db_scripts(self) -> Iterator[Script]:
        """The scripts and functions added to the ensemble."""
        return iter(tuple(self._db_scripts))

    def add_ml_model(
        self,
        name: str,
        backend: str,
        model: bytes | None = None,
        model_path: str | os.PathLike[str] | None = None,
        device: str = "CPU",
        devices_per_node: int = 1,
        first_device: int = 0,
        batch_size: int = 0,
        min_batch_size: int = 0,
        min_batch_timeout: int = 0,
        tag: str = "",
        inputs: str | Sequence[str] | None = None,
        outputs: str | Sequence[str] | None = None,
    ) -> None:
        """Have an ML model in the database before any member starts. The arguments are those of `MLModel`.

        Members that are added later get it too. If one member has an ML model of that name, none gets it.

        Raises:
            UnsupportedError: the ensemble or a member has an ML model of that name, or several devices on a CPU.
            InputError, InputTypeError, FileNotFoundError: as `MLModel`.
        """
        added = MLModel(
            name, backend, model, model_path, device, devices_per_node, first_device, batch_size, min_batch_size,
            min_batch_timeout, tag, inputs, outputs,
        )  # fmt: skip
        self._add(added)

    def add_script(
        self,
        name: str,
        script: str | None = None,
        script_path: str | os.PathLike[str] | None = None,
        device: str = "CPU",
        devices_per_node: int = 1,
        first_device: int = 0,
    ) -> None:
        """Have TorchScript code in the database before any member starts. The arguments are those of `Script`.

        Raises:
            UnsupportedError: the ensemble or a member has a script of that name, or several devices on a CPU.
            InputError, InputTypeError, FileNotFoundError: as `Script`.
        """
        self._add(Script(name, script, script_path, device, devices_per_node, first_device))

    def add_function(
        self,
        name: str,
        function: Any = None,
        device: str = "CPU",
        devices_per_node: int = 1,
        first_device: int = 0,
    ) -> None:
        """Have a function in the database before any member starts: a Python function, its text, or a scripted one.

        Raises:
            UnsupportedError, InputError, InputTypeError: as `add_script`; the function's source cannot be found.
        """
        self._add(function_script(name, function, device, devices_per_node, first_device))

    def _add(self, asset: Asset) -> None:
        own: list[Any] = self._db_models if isinstance(asset, MLModel) else self._db_scripts
        check_new_asset(asset, own)
        for model in self._each():
            check_new_asset(asset, model.db_models if isinstance(asset, MLModel) else model.db_scripts)
        own.append(asset)
        for model in self._each():
            if isinstance(asset, MLModel):
                model.add_ml_model_object(asset)
            elif isinstance(asset, Script):
                model.add_script_object(asset)

    # Colocated databases

    @property
    def colocated(self) -> bool:
        """Whether a database runs beside every member on its node."""
        return len(self) > 0 and all(
            (self._prototype if isinstance(slot, int) else slot).colocated for slot in self._members.slots()
        )

    def colocate_db(self, *args: Any, **kwargs: Any) -> None:
        """Run a database beside every member that is there: see `Model.colocate_db_tcp`."""
        self.colocate_db_tcp(*args, **kwargs)

    def colocate_db_tcp(self, port: int = 6379, ifname: str | Sequence[str] = "lo", **options: Any) -> None:
        """Run a database beside every member that is there, reached over TCP: see `Model.colocate_db_tcp`."""
        for model in self._each():
            model.colocate_db_tcp(port, ifname, **options)

    def colocate_db_uds(self, unix_socket: str = DEFAULT_SOCKET, socket_permissions: int = 755, **options: Any) -> None:
        """Run a database beside every member that is there, reached over a Unix socket: see `Model.colocate_db_uds`."""
        for model in self._each():
            model.colocate_db_uds(unix_socket, socket_permissions, **options)


def _check_count(argument: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputTypeError(f"{argument}={value!r} is a {type(value).__name__}; give a whole number")
    if value < 0:
        raise InputError(f"{argument}={value}; give 0 or more")
    return value


def _parameters(
    params: Mapping[str, Any] | str | Sequence[str] | None, params_as_args: object
) -> tuple[list[str] | None, dict[str, Any]]:
    """The names without values in `params`, if that is what it is, and the parameters with values of both arguments."""
    valued = dict(params_as_args) if isinstance(params_as_args, Mapping) else {}
    check_names(valued, "params_as_args")
    if params is None:
        return None, valued
    if isinstance(params, Mapping):
        check_names(params, "params")
        for name in valued:
            if name in params:
                raise InputError(f"{name!r} has values in params and in params_as_args; give them in one of the two")
        return None, dict(params) | valued
    names = [params] if isinstance(params, str) else params
    if not isinstance(names, (list, tuple)):
        raise InputTypeError(
            f"params: {params!r} is a {type(params).__name__}; Ensemble initialization argument 'params' must be a dict of names "
            "and values, or names"
        )
    names = check_names(names, "params")
    missing = [name for name in names if name not in valued]
    if missing and valued:
        raise InputError(
            f"params: {missing[0]!r} has no values in params_as_args; give them there, or params as a dict"
        )
    return (names or None) if missing else None, {
        name: valued[name] for name in names
    } | valued if not missing else valued
