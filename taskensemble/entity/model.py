"""A model: one program to run."""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskensemble.checked import checked
from taskensemble.entity.assets import Asset, MLModel, Script, function_source
from taskensemble.entity.colocated import ColocatedDatabase
from taskensemble.entity.entity import Entity, check_dependencies
from taskensemble.entity.files import AttachedFiles, Paths
from taskensemble.entity.parameters import argument_tokens, check_names, model_values
from taskensemble.entity.policy import Policy, Resources
from taskensemble.errors import EntityExistsError, InputError, InputTypeError, UnsupportedError

if TYPE_CHECKING:
    from taskensemble.settings import BatchSettings, RunSettings

DEFAULT_SOCKET = os.path.join(tempfile.gettempdir(), "redis.socket")
"""Where SmartSim puts the socket of a colocated database. Here it stands for a socket of the database's own."""


@checked
class Model(Entity):
    """One program to run: its run settings, parameters and files. Two models of one name are equal.

    Args:
        name: of the model, its folder and its keys in the database.
        params: parameters for files and arguments: text, numbers, or lists of those.
        run_settings: how the program is run.
        path: the folder it runs in; None: one below the experiment's.
        params_as_args: names of parameters that `params_to_args` makes into arguments.
        batch_settings: to run it as a batch job of its own.
        resources: what it holds of a node: a dict of cpus, gpus, memory, whole_node, nodes, tags, time; see `Resources`.
        depends_on: entities of the same start that must have completed before.
        policy: retries, walltime and the rest, as keywords: see `Policy`.

    Raises:
        AttributeError: no name.
        InputTypeError: a parameter is neither text, nor a number, nor a list of those.
    """

    def __init__(
        self,
        name: str,
        params: Mapping[str, Any] | None,
        run_settings: RunSettings | None,
        path: str | os.PathLike[str] | None = None,
        params_as_args: str | Sequence[str] | None = None,
        batch_settings: BatchSettings | None = None,
        *,
        resources: Resources | Mapping[str, Any] | None = None,
        depends_on: Entity | Iterable[Entity] | None = None,
        **policy: Any,
    ) -> None:
        super().__init__(name, path, run_settings)
        self.params, self._lists = model_values(params)
        self.params_as_args = argument_names(params_as_args)
        self.batch_settings = batch_settings
        self.incoming_entities: list[Entity] = []
        self.files: AttachedFiles | None = None
        self.resources = Resources.of(resources)
        self.policy = Policy.of(**policy)
        self.depends_on = check_dependencies(depends_on, name)
        self.colocated_database: ColocatedDatabase | None = None
        self._argument_tail: tuple[str, ...] = ()
        self._key_prefixing_enabled = False
        self._db_models: list[MLModel] = []
        self._db_scripts: list[Script] = []

    def copy_as(self, name: str, params: dict[str, str]) -> Model:
        """A model like this one, with another name and parameters and run settings of its own."""
        twin = copy.copy(self)
        twin.name = name
        twin.params = params
        twin._lists = {}
        twin.run_settings = copy.deepcopy(self.run_settings)
        if twin.run_settings is not None and self.argument_tail:
            # The arguments that stand for this model's parameters make way for those of the twin's.
            twin.run_settings.exe_args = twin.run_settings.exe_args[: -len(self.argument_tail)]
        twin._argument_tail = ()
        twin.incoming_entities = list(self.incoming_entities)
        twin._db_models = list(self._db_models)
        twin._db_scripts = list(self._db_scripts)
        twin.params_to_args()
        return twin

    # Parameters

    def params_to_args(self) -> None:
        """Append the parameters named in `params_as_args` to the program's arguments.

        Raises:
            InputError: a name is no parameter, or there are no run settings.
        """
        tokens: list[str] = []
        for name in self.params_as_args or ():
            if name not in self.params:
                raise InputError(
                    f"params_as_args: Tried to convert {name} to command line argument for Model {self.name}, but its value was "
                    f"not found in model params ({', '.join(self.params) or 'none'})"
                )
            tokens += argument_tokens(name, self._lists.get(name) or (self.params[name],))
        if not tokens:
            return
        if self.run_settings is None:
            raise InputError(
                f"params_as_args: Tried to configure command line parameter for Model {self.name}, but no RunSettings are set"
            )
        self.run_settings.add_exe_args(tokens)
        self._argument_tail += tuple(tokens)

    @property
    def argument_tail(self) -> tuple[str, ...]:
        """The arguments that `params_to_args` made, as long as they are the last ones: what differs from member to member."""
        count = len(self._argument_tail)
        if (
            count
            and self.run_settings is not None
            and tuple(self.run_settings.exe_args[-count:]) == self._argument_tail
        ):
            return self._argument_tail
        return ()

    # Keys in the database

    def register_incoming_entity(self, incoming_entity: Entity) -> None:
        """Let this model read what another one writes: its name goes into SSKEYIN, an ensemble's as its members' names.

        Raises:
            EntityExistsError: one of that name is registered already.
            InputTypeError: it is no entity.
        """
        self.check_incoming(incoming_entity)
        self.incoming_entities.append(incoming_entity)

    def check_incoming(self, incoming_entity: object) -> None:
        """Raise what `register_incoming_entity` would."""
        if not isinstance(incoming_entity, Entity):
            raise InputTypeError(
                f"incoming_entity: {incoming_entity!r} is a {type(incoming_entity).__name__}; give a model or an ensemble"
            )
        if any(entity.name == incoming_entity.name for entity in self.incoming_entities):
            raise EntityExistsError(
                f"'{incoming_entity.name}' has already been registered as an incoming entity of {self.name!r}"
            )

    def enable_key_prefixing(self) -> None:
        """Let the clients in this model put its name before the keys they write."""
        self._key_prefixing_enabled = True

    def disable_key_prefixing(self) -> None:
        """Let the clients in this model write keys as they are."""
        self._key_prefixing_enabled = False

    def query_key_prefixing(self) -> bool:
        """Whether the clients in this model put its name before the keys they write."""
        return self._key_prefixing_enabled

    # Files

    def attach_generator_files(
        self,
        to_copy: Paths = None,
        to_symlink: Paths = None,
        to_configure: Paths = None,
        *,
        tag: str = ";",
        allow_unknown_tags: bool = False,
    ) -> None:
        """Say what the model finds in its folder. A second call replaces the first.

        Args:
            to_copy: files, and folders whose contents are copied.
            to_symlink: files and folders that are linked by their base name.
            to_configure: text files, and folders of them, whose tags are replaced by parameters.
            tag: what stands around a parameter's name in them.
            allow_unknown_tags: keep the text of a tag that is no parameter, instead of raising when files are made.

        Raises:
            FileNotFoundError: a path is not there.
            InputTypeError, InputError: something is no path, or two of them would have one name.
        """
        self.files = AttachedFiles.of(to_copy, to_symlink, to_configure, tag=tag, allow_unknown_tags=allow_unknown_tags)

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
        """A table of the attached files."""
        return "No file attached to this model." if self.files is None else str(self.files)

    def print_attached_files(self) -> None:
        """Print the table of the attached files."""
        print(self.attached_files_table)

    # ML assets

    @property
    def db_models(self) -> Iterator[MLModel]:
        """The ML models added."""
        return iter(tuple(self._db_models))

    @property
    def db_scripts(self) -> Iterator[Script]:
        """The scripts and functions added."""
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
        """Have an ML model in the database before this model's program starts. The arguments are those of `MLModel`.

        Raises:
            UnsupportedError: an ML model of that name was added before, or several devices on a CPU.
            InputError, InputTypeError, FileNotFoundError: as `MLModel`.
        """
        added = MLModel(
            name, backend, model, model_path, device, devices_per_node, first_device, batch_size, min_batch_size,
            min_batch_timeout, tag, inputs, outputs,
        )  # fmt: skip
        self.add_ml_model_object(added)

    def add_script(
        self,
        name: str,
        script: str | None = None,
        script_path: str | os.PathLike[str] | None = None,
        device: str = "CPU",
        devices_per_node: int = 1,
        first_device: int = 0,
    ) -> None:
        """Have TorchScript code in the database before this model's program starts. The arguments are those of `Script`.

        Raises:
            UnsupportedError: a script of that name was added before, or several devices on a CPU.
            InputError, InputTypeError, FileNotFoundError: as `Script`.
        """
        self.add_script_object(Script(name, script, script_path, device, devices_per_node, first_device))

    def add_function(
        self,
        name: str,
        function: Any = None,
        device: str = "CPU",
        devices_per_node: int = 1,
        first_device: int = 0,
    ) -> None:
        """Have a function in the database before this model's program starts: a Python function, its text, or a scripted one.

        Raises:
            UnsupportedError, InputError, InputTypeError: as `add_script`; the function's source cannot be found.
        """
        self.add_script_object(function_script(name, function, device, devices_per_node, first_device))

    def add_ml_model_object(self, db_model: MLModel) -> None:
        """Add an ML model that is described already."""
        check_new_asset(db_model, self._db_models)
        self._db_models.append(db_model)

    def add_script_object(self, db_script: Script) -> None:
        """Add a script that is described already."""
        check_new_asset(db_script, self._db_scripts)
        self._db_scripts.append(db_script)

    # Colocated databases

    @property
    def colocated(self) -> bool:
        """Whether a database runs beside this model on its node."""
        return self.colocated_database is not None or bool(getattr(self.run_settings, "colocated_db_settings", None))

    def colocate_db(self, *args: Any, **kwargs: Any) -> None:
        """`colocate_db_tcp` under its old name."""
        warnings.warn(
            "`colocate_db` is deprecated: use `colocate_db_tcp` or `colocate_db_uds`", FutureWarning, stacklevel=2
        )
        self.colocate_db_tcp(*args, **kwargs)

    def colocate_db_tcp(
        self,
        port: int = 6379,
        ifname: str | Sequence[str] = "lo",
        db_cpus: int = 1,
        custom_pinning: Iterable[int | Iterable[int]] | None = None,
        debug: bool = False,
        db_identifier: str = "",
        **db_settings: Any,
    ) -> None:
        """Run a database on the model's node, reached over TCP.

        Args:
            port: where it listens; the worker takes another one where it is in use.
            ifname: network interface, or several.
            db_cpus: CPUs it may use.
            custom_pinning: CPUs it is bound to: numbers and ranges; an empty list binds it to none.
            debug: log more.
            db_identifier: what follows SSDB_ in the model's environment.
            db_settings: configuration of the server (maxclients, …) and of the inference (threads_per_queue, …).

        Raises:
            InputError, InputTypeError: a value that cannot be used.
            UnsupportedError: the run settings are MPMD.
        """
        self._colocate(ColocatedDatabase.tcp(port, ifname, db_cpus, custom_pinning, debug, db_identifier, db_settings))

    def colocate_db_uds(
        self,
        unix_socket: str = DEFAULT_SOCKET,
        socket_permissions: int = 755,
        db_cpus: int = 1,
        custom_pinning: Iterable[int | Iterable[int]] | None = None,
        debug: bool = False,
        db_identifier: str = "",
        **db_settings: Any,
    ) -> None:
        """Run a database on the model's node, reached over a Unix socket.

        Args:
            unix_socket: the socket's path; the default stands for one of its own in a short local path.
            socket_permissions: its permissions, as octal digits.
            db_cpus, custom_pinning, debug, db_identifier, db_settings: as for `colocate_db_tcp`.

        Raises:
            InputError, InputTypeError, UnsupportedError: as `colocate_db_tcp`.
        """
        self._colocate(
            ColocatedDatabase.uds(
                unix_socket, socket_permissions, db_cpus, custom_pinning, debug, db_identifier, db_settings
            )
        )

    def _colocate(self, database: ColocatedDatabase) -> None:
        settings: Any = self.run_settings
        if getattr(settings, "mpmd", None):
            raise UnsupportedError(
                "Models colocated with databases cannot be run as a mpmd workload: the run settings of "
                f"{self.name!r} have {len(settings.mpmd)} further programs"
            )
        self.colocated_database = database
        if settings is not None:
            settings.prepare_colocated(database.cpus)
            settings.colocated_db_settings = database.described() | {
                "db_models": self._db_models,
                "db_scripts": self._db_scripts,
            }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        lines = [f"Name: {self.name}", f"Type: {self.type}", str(self.run_settings)]
        if self._db_models:
            lines.append(f"DB Models: {len(self._db_models)}")
        if self._db_scripts:
            lines.append(f"DB Scripts: {len(self._db_scripts)}")
        return "\n".join(lines) + "\n"


def argument_names(params_as_args: object) -> list[str] | None:
    """The names of parameters that become arguments, from a name or a list of names."""
    if params_as_args is None:
        return None
    if isinstance(params_as_args, str):
        params_as_args = [params_as_args]
    if not isinstance(params_as_args, (list, tuple)):
        raise InputTypeError(
            f"params_as_args: {params_as_args!r} is a {type(params_as_args).__name__}; give a parameter's name or a list of names"
        )
    return check_names(params_as_args, "params_as_args")


def function_script(name: str, function: object, device: str, devices_per_node: int, first_device: int) -> Script:
    """A script of one function."""
    if function is None:
        raise InputError(f"function {name!r}: function must be provided")
    return Script(name, function_source(name, function), None, device, devices_per_node, first_device)


def check_new_asset(asset: Asset, present: Iterable[Asset]) -> None:
    """Refuse a second asset of one name.

    Raises:
        UnsupportedError: there is one already.
    """
    if any(other.name == asset.name for other in present):
        kind = "An ML Model" if isinstance(asset, MLModel) else "A Script"
        raise UnsupportedError(f'{kind} with name "{asset.name}" already exists')


def attach_by_old_names(
    attach: Any, to_copy: Any, to_symlink: Any, to_config: Any, to_configure: Any, options: dict[str, Any]
) -> None:
    """Call `attach` with whichever of `to_config` and `to_configure` was given."""
    if to_config is not None and to_configure is not None:
        raise InputError("to_config and to_configure are one argument under two names; give one of them")
    attach(to_copy, to_symlink, to_config if to_configure is None else to_configure, **options)
