"""Experiment: what a driver makes everything with.

The factories make descriptions; `start` plans them, writes the plan as a run's record and publishes its setup; everything after
that is read back from the record. Where the parts are: arguments.py and refusals.py (what is refused), plan.py (what a start
does), connection.py (the control plane), handle.py (a started run), summary.py and preview.py (what is printed), lifetime.py
(what happens when the driver ends).
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from taskensemble import configuration
from taskensemble.arguments import bytes_of, chosen_launcher, experiment_path, seconds_of, settings_given, slots_of
from taskensemble.checked import checked
from taskensemble.connection import Connection
from taskensemble.databases import Databases
from taskensemble.engine.allocation import check_allocation
from taskensemble.engine.records import State as Status
from taskensemble.errors import (
    InputError,
    InputTypeError,
    RunNotFoundError,
    TaskensembleError,
    UnsupportedError,
)
from taskensemble.handle import EmptyRun, RunHandle, new_run_id, submit
from taskensemble.history import History
from taskensemble.progress import progress
from taskensemble.refusals import check_idle, check_nodes, check_settings, check_worker, warn_of_no_allocation
from taskensemble.summary import launch_summary, run_summary
from taskensemble.transfer import pack, store_inputs
from taskensemble.versions import this_driver, versions

if TYPE_CHECKING:
    from taskensemble.adaptive import AdaptiveHandle, RoundGenerator
    from taskensemble.entity import Database, Ensemble, Entity, Model
    from taskensemble.plan import Plan
    from taskensemble.settings import BatchSettings, RunSettings
    from taskensemble.transfer.inputs import Packed

logger = logging.getLogger("taskensemble")


@checked
class Experiment:
    """A name and a folder: the factory of everything that runs in them.

    Arguments:
        name: of the experiment and, unless `exp_path` says otherwise, of its folder in the current one
        exp_path: the experiment's folder; a given one must exist
        launcher: local, slurm, pbs, pals, lsf, sge, or auto (the first scheduler that is found, else local)
        broker: URL of a Redis, Valkey or RabbitMQ broker; None: TASKENSEMBLE_BROKER_URL, a kept control plane above the folder,
            or an embedded one that ends with the driver
        store: URL of the Redis or Valkey server of the records; None: TASKENSEMBLE_STORE_URL, or the broker
        slots: members at a time of the embedded worker; None: as many as cores
        interface: network interface, or its address, that the embedded control plane listens on besides 127.0.0.1, for workers
            on other nodes
        export_env: names of the driver's environment variables that every member gets
        wait_for_worker: seconds that members wait while no registered worker could ever run them; then they have failed. 0: for
            ever. Members of a batch job wait for it as long as its scheduler lets them
        keep_records: seconds that the control plane keeps the records of a run that ended; afterwards nothing shows or resumes it
        shared_filesystem: whether the workers' hosts have the driver's files under the same paths. False: inputs travel with
            each start, and members' files come back when they end
        transfer_limit: bytes, or text such as "512M": most that the inputs of a start, and that one member's files may have
        transfer_store: where files travel through, as fsspec names it ("s3://bucket/runs"); None: the control plane

    Raises:
        InputTypeError: a name or path of a wrong type
        NotADirectoryError: `exp_path` is no folder
        UnsupportedError: an unknown launcher
        InputError: a value that cannot be used
    """

    def __init__(
        self,
        name: str,
        exp_path: str | os.PathLike[str] | None = None,
        launcher: str = "local",
        *,
        broker: str | None = None,
        store: str | None = None,
        slots: int | None = None,
        interface: str = "127.0.0.1",
        export_env: Iterable[str] = (),
        wait_for_worker: float = 3600.0,
        keep_records: float = 7 * 86400.0,
        shared_filesystem: bool = True,
        transfer_limit: int | str = "64M",
        transfer_store: str | None = None,
    ) -> None:
        from taskensemble.entity.entity import check_name

        self.name = check_name(name, "Experiment")
        self.exp_path = experiment_path(name, exp_path)
        configuration.export(Path(self.exp_path))
        self.launcher = chosen_launcher(launcher)
        self._connection = Connection(self, broker, store, slots_of(slots), interface)
        self._wait_for_worker = seconds_of("wait_for_worker", wait_for_worker, 0.0, "0 waits for ever")
        self._keep_records = seconds_of("keep_records", keep_records, 1.0, "a run can be resumed so long after its end")
        self._export_env = tuple([export_env] if isinstance(export_env, str) else export_env)
        self._transfer = None if shared_filesystem else (bytes_of(transfer_limit), transfer_store or "")
        if shared_filesystem and transfer_store:
            raise InputError(
                f"transfer_store={transfer_store!r}: nothing travels; give shared_filesystem=False with it"
            )
        self._history = History()
        self._databases = Databases(self)
        self._generated: dict[str, int] = {}
        self._unnamed_ensembles = 0

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, exp_path={self.exp_path!r}, launcher={self.launcher!r})"

    # Factories

    def create_run_settings(
        self,
        exe: str,
        exe_args: list[str] | str | None = None,
        run_command: str | None = "auto",
        run_args: Mapping[str, Any] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        container: Any = None,
        **further: Any,
    ) -> RunSettings:
        """Say how a program is run.

        Arguments:
            exe: the program, found through PATH
            exe_args: its arguments: text, split by shell rules, or a list
            run_command: what launches it; "auto": none on local, else the first found of the scheduler's
            run_args: arguments of the run command
            env_vars: set in the program's environment; None removes a variable
            container: what it runs in

        Raises:
            FileNotFoundError, InputTypeError: the program is absent or cannot be executed
            LauncherError: no run command is found
        """
        from taskensemble.settings import create_run_settings

        return create_run_settings(
            self.launcher,
            exe,
            exe_args,
            run_command=run_command,
            run_args=run_args,
            env_vars=env_vars,
            container=container,
            **further,
        )

    def create_batch_settings(
        self,
        nodes: int = 1,
        time: str = "",
        queue: str = "",
        account: str = "",
        batch_args: Mapping[str, Any] | None = None,
        **further: Any,
    ) -> BatchSettings:
        """Say which batch job the members of an ensemble, or a model, run in.

        Raises:
            LauncherUnsupportedError: the launcher has no batch jobs
        """
        from taskensemble.settings import create_batch_settings

        return create_batch_settings(
            self.launcher, nodes=nodes, time=time, queue=queue, account=account, batch_args=batch_args, **further
        )

    def create_model(
        self,
        name: str,
        run_settings: RunSettings,
        params: Mapping[str, Any] | None = None,
        path: str | os.PathLike[str] | None = None,
        enable_key_prefixing: bool = False,
        batch_settings: BatchSettings | None = None,
        params_as_args: str | list[str] | None = None,
        **keywords: Any,
    ) -> Model:
        """One program to run.

        Arguments:
            name: of the model, its folder and its keys
            run_settings: how its program is run
            params: parameters: text, numbers, or lists of those
            path: its folder; None: one of its name in the experiment's
            enable_key_prefixing: put its name before the keys it writes into a database
            batch_settings: a batch job of its own
            params_as_args: names of parameters that become arguments of the program
            keywords: resources, depends_on, and the policy: retries, retry_delay, retry_on, restart_args, walltime, warn_before,
                grace, keep_outputs, output_limit

        Raises:
            AttributeError: no name
            InputError, InputTypeError: a value that cannot be used
        """
        model = self._entity_classes()[0](name, params, run_settings, path, params_as_args, batch_settings, **keywords)
        model.place(os.path.join(self.exp_path, model.name))
        if params_as_args is not None:
            model.params_to_args()
        if enable_key_prefixing:
            model.enable_key_prefixing()
        return model

    def create_ensemble(
        self,
        name: str | RunSettings | BatchSettings,
        params: Any = None,
        batch_settings: BatchSettings | None = None,
        run_settings: RunSettings | None = None,
        replicas: int | None = None,
        perm_strategy: str | Callable[..., list[dict[str, str]]] = "all_perm",
        path: str | os.PathLike[str] | None = None,
        params_as_args: str | list[str] | Mapping[str, Any] | None = None,
        n_models: int = 0,
        **keywords: Any,
    ) -> Ensemble:
        """Models that are started, watched and stopped as one: generated from parameters, samples or as replicas, or added.

        Arguments:
            name: of the ensemble and the beginning of its members' names. Settings may come first; the name is then `ensemble`,
                `ensemble_1`, …
            params: parameter -> text, number, list of those, or a range for the samplers; or run or batch settings
            batch_settings: a batch job that the members run in
            run_settings: how a member's program is run
            replicas: members for each parameter set
            perm_strategy: all_perm, step, random, latin_hypercube, sobol, or a function of (names, values, n_models)
            path: its folder; None: one of its name in the experiment's
            params_as_args: names of parameters that become arguments of the program, or a dict of such parameters
            n_models: how many parameter sets are drawn by random, latin_hypercube, sobol or a function
            keywords: seed, samples, resources, depends_on, and the policy, as for `create_model`, with on_failure and enough

        Raises:
            AttributeError: no name
            InputError, InputTypeError, UnsupportedError, UserStrategyError: see `Ensemble`
        """
        from taskensemble.settings import BatchSettings, RunSettings

        if isinstance(name, (RunSettings, BatchSettings)):
            settings, name = name, self._ensemble_name()
            run_settings, batch_settings = settings_given(settings, run_settings, batch_settings)
        if isinstance(params, (RunSettings, BatchSettings)):
            settings, params = params, None
            run_settings, batch_settings = settings_given(settings, run_settings, batch_settings)
        ensemble = self._entity_classes()[1](
            name,
            params,
            path,
            params_as_args,
            batch_settings,
            run_settings,
            perm_strategy,
            replicas=replicas,
            n_models=n_models,
            **keywords,
        )
        ensemble.place(os.path.join(self.exp_path, ensemble.name))
        return ensemble

    def create_database(
        self,
        port: int = 6379,
        path: str | os.PathLike[str] | None = None,
        db_nodes: int = 1,
        batch: bool = False,
        hosts: list[str] | str | None = None,
        run_command: str = "auto",
        interface: str | list[str] = "lo",
        account: str | None = None,
        time: str | None = None,
        queue: str | None = None,
        single_cmd: bool = True,
        db_identifier: str = "orchestrator",
        **keywords: Any,
    ) -> Database:
        """A standard database; `start` brings it up. The arguments are those of `Database`.

        Raises:
            UnsupportedError: two nodes
            InputError, InputTypeError: a value that cannot be used
            DatabaseIdentifierError: this experiment has a running one of that identifier
        """
        self._databases.check_free(db_identifier)
        if queue is not None:
            keywords["queue"] = queue
        database = self._entity_classes()[2](
            path,
            port,
            interface,
            self.launcher,
            run_command,
            db_nodes,
            batch,
            hosts,
            account,
            time,
            single_cmd=single_cmd,
            db_identifier=db_identifier,
            **keywords,
        )
        database.place(os.path.join(self.exp_path, database.name))
        return database

    def _entity_classes(self) -> tuple[type[Model], type[Ensemble], type[Database]]:
        """What the factories make; `taskensemble.smartsim` has its own."""
        from taskensemble.entity import Database, Ensemble, Model

        return Model, Ensemble, Database

    # Starting

    def generate(
        self, *entities: Entity, tag: str | None = None, overwrite: bool = False, verbose: bool = False
    ) -> None:
        """Make the folders and files of models and ensembles ahead of their start.

        Arguments:
            tag: what stands around a parameter's name in tagged files; None: as attached (`;`)
            overwrite: replace folders that are there
            verbose: say what was made

        Raises:
            FileExistsError: a folder is there and `overwrite` is not given
            ParameterWriterError: a tag that is no parameter
            InputTypeError, AttributeError, EntityExistsError, InputError: as `start`; it was given nothing
        """
        from taskensemble.generation import generate_all
        from taskensemble.plan import check_entities

        checked = check_entities(entities)
        if not checked:
            raise InputError("generate() was given nothing: pass models or ensembles of the experiment.")
        planned = self._plan(checked, "generate", for_files=True, tag=tag, overwrite=overwrite)
        generate_all(planned.run, planned.members, overwrite)
        for entity in planned.run.entities:
            self._generated[entity.name] = entity.size
            if verbose:
                print(f"Generated {entity.name}: {entity.size} folders in {entity.path}")

    def start(
        self,
        *entities: Entity,
        block: bool = True,
        summary: bool = False,
        kill_on_interrupt: bool = True,
        together: bool = False,
        quiet: bool = False,
    ) -> RunHandle:
        """Start entities: databases first, then their ML assets, then the members.

        Arguments:
            block: wait until every member has ended; else return once the assets are in place
            summary: print what is started, and afterwards what became of it
            kill_on_interrupt: Ctrl-C stops everything of the experiment; else it only ends the wait
            together: all members of an entity run at the same time, or none starts
            quiet: show no progress

        Returns:
            RunHandle: of this start: wait, status, stop, results, run_id. Failed members raise nothing; they are counted in it.

        Raises:
            InputTypeError, AttributeError: something that is no entity, or has no name
            EntityExistsError: two entities of one name, or one that still runs
            InputError: an empty ensemble, a missing dependency, a value that cannot be used
            DatabaseError: ML assets without a database; a database that cannot start
            DatabaseIdentifierError: a running database has the identifier
            AssetError: an asset cannot be loaded; no member has started, and what this start brought up is stopped again
            AllocationError: a cluster's launcher with neither an allocation nor a batch job, or a batch job that is refused
            ControlPlaneError: no control plane
            KeyboardInterrupt: as it came, after the stop
        """
        from taskensemble.entity import Database
        from taskensemble.plan import check_entities

        checked = check_entities(entities)
        if not checked:
            raise InputError("start() was given nothing: pass models, ensembles or databases of the experiment.")
        databases = [entity for entity in checked if isinstance(entity, Database)]
        started = [entity for entity in checked if not isinstance(entity, Database)]
        check_idle(self._history, started)
        check_settings(self.launcher, started)
        for database in databases:
            self._databases.check_free(database.db_identifier)
        identifiers = [*self._databases.active(), *(database.db_identifier for database in databases)]
        planned = self._plan(started, new_run_id(self.name), databases=identifiers, together=together)
        if summary:
            print(launch_summary(self, planned.run, databases), flush=True)
        try:
            handle = self._launch(planned, databases)
            if block and started:
                handle.wait(progress=progress(quiet))
        except KeyboardInterrupt as interrupt:
            self._interrupted(kill_on_interrupt)
            raise interrupt.with_traceback(None) from None  # in which socket it waited is of no use to a driver
        if summary and block and started:
            print(run_summary(handle), flush=True)
        return handle

    def start_adaptive(
        self,
        model: Model,
        generator: RoundGenerator,
        *,
        block: bool = True,
        quiet: bool = False,
        kill_on_interrupt: bool = True,
    ) -> AdaptiveHandle:
        """Start an ensemble whose next members depend on what the last ones found.

        Arguments:
            model: what each member is a copy of: program, files, ML assets, policy
            generator: yields rounds, each a list of dicts of parameters; is sent the rows of a round once its members have ended
            block: lead it to its end; else start the first round, and let the handle's `wait` do the rest

        Raises:
            InputTypeError, InputError: no generator, or an empty round; else as `start`
        """
        from taskensemble.adaptive import AdaptiveHandle

        handle = AdaptiveHandle(self, model, generator)
        try:
            handle.begin()
            if block:
                handle.wait(quiet=quiet)
        except KeyboardInterrupt as interrupt:
            self._interrupted(kill_on_interrupt)
            raise interrupt.with_traceback(None) from None  # in which socket it waited is of no use to a driver
        return handle

    def start_round(self, ensemble: Ensemble, parent: str | None) -> RunHandle:
        """Start one round of an adaptive ensemble, after the round `parent`."""
        check_idle(self._history, [ensemble])
        databases = list(self._databases.active())
        planned = self._plan([ensemble], new_run_id(self.name), databases=databases, parent=parent)
        return self._launch(planned, [])

    def _plan(
        self,
        entities: Sequence[Entity],
        run_id: str,
        *,
        databases: Sequence[str] = (),
        together: bool = False,
        for_files: bool = False,
        tag: str | None = None,
        overwrite: bool = False,
        parent: str | None = None,
    ) -> Plan:
        """The plan of a start. `for_files`: of folders alone, so that databases and dependencies need not be there."""
        from taskensemble.inputs import read_inputs
        from taskensemble.plan import plan

        others = {other.name for entity in entities for other in entity.depends_on}
        return plan(
            entities,
            read_inputs(entities, tag=tag),
            experiment=self.name,
            path=self.exp_path,
            run_id=run_id,
            created=time.time(),
            databases=None if for_files else databases,
            export_env={name: os.environ[name] for name in self._export_env if name in os.environ},
            overwrite=overwrite,
            generated=[] if for_files else self._generated_as_is(entities),
            completed=others if for_files else self._completed(others),
            together=together,
            tag=tag,
            driver=this_driver(),
            versions=versions(),
            parent=parent,
            wait_for_worker=self._wait_for_worker,
            keep=self._keep_records,
            allocated=self.launcher != "local",
        )

    def _launch(self, planned: Plan, databases: Sequence[Database]) -> RunHandle:
        """Bring up what a plan needs, write it, publish its setup, and wait for its assets; all of it or nothing."""
        if self.ends_with_driver:
            # External workers may be in allocations; the embedded one is where this driver is.
            check_allocation(self.launcher, planned.run, planned.members, os.environ)
            check_worker(self.launcher, planned, self._connection.slots, self._connection.open_plane)
        packed = self._packed(planned)
        Path(self.exp_path).mkdir(parents=True, exist_ok=True)
        had_control = self._connection.open_plane is not None
        begun: list[Database] = []
        try:
            outlived = self._connection.working() if databases and not self.ends_with_driver else None
            for database in databases:
                self._databases.start(database)
                begun.append(database)
                if outlived is not None:
                    # Whatever becomes of this driver now, `taskensemble down` finds the database there.
                    self._databases.publish(outlived)
            if not planned.run.entities:
                return EmptyRun(planned.run)
            if self.ends_with_driver:
                check_nodes(self.launcher, planned, self._databases.reserved_nodes())
            control = self._connection.working()
            self._databases.publish(control)
            run, assets = planned.run, planned.assets
            if packed is not None:
                run, assets = packed.run, {**assets, **store_inputs(control.store, packed)}
            warn_of_no_allocation(self.launcher, control, run)
            handle = submit(control, run, planned.members, assets, planned.secrets)
            self._history.add(handle)
            if planned.batches:
                self._databases.warn_of_jobs(run)
                batches = {queue: settings.record() for queue, settings in planned.batches.items()}
                control.jobs.submit(planned.run, batches)
            if any(template.assets for template in planned.run.templates):
                handle.wait_for_assets()
        except TaskensembleError:
            for database in reversed(begun):
                self._databases.stop(database)
            if not had_control:
                self.close()
            raise
        return handle

    def _packed(self, planned: Plan) -> Packed | None:
        """The plan's inputs, read, where the workers cannot read them themselves."""
        if self._transfer is None or not planned.run.entities:
            return None
        if planned.batches:
            raise UnsupportedError(
                "shared_filesystem=False: the nodes of a batch job share a file system with its driver; leave it out, or start "
                "workers by hand"
            )
        return pack(planned.run, *self._transfer)

    def _interrupted(self, kill: bool) -> None:
        """Ctrl-C came while the driver waited."""
        if kill:
            running = self._history.active()
            if not running and not self._databases.active():
                return
            logger.warning("Interrupted: stopping everything of the experiment %s.", self.name)
            self.stop_all()
            for handle in running:
                logger.warning(
                    "`taskensemble resume %s -p %s` runs what had not ended.", handle.run_id, shlex.quote(self.exp_path)
                )
            return
        for handle in self._history.active():
            logger.warning(
                "Interrupted: the run %s goes on; `exp.stop`, or `taskensemble stop %s`, ends it.",
                handle,
                handle.run_id,
            )

    # Stopping and waiting

    def stop(self, *entities: Entity) -> None:
        """Stop entities: of models and ensembles what waits is cancelled and what runs is ended; a second time is fine.

        A member of an ensemble is stopped alone: it is CANCELLED, and the others go on.

        Raises:
            InputTypeError: something that is no entity
            RunNotFoundError: one was never started
            TimeoutError: something is still alive after the grace period; the message names it
        """
        from taskensemble.entity import Database
        from taskensemble.plan import check_entities

        checked = check_entities(entities)
        for entity in checked:
            if isinstance(entity, Database):
                self._databases.check_started(entity)
            else:
                self._history.latest(entity.name)
        for entity in checked:
            if isinstance(entity, Database):
                self._databases.stop(entity)
                continue
            place = self._history.latest(entity.name)
            if place.entity is None:
                place.handle.stop_members([place.first])
            else:
                place.handle.stop(entity=place.entity)

    def stop_all(self) -> None:
        """Stop every run and every database that this experiment started.

        Raises:
            TimeoutError: something is still alive after the grace period
        """
        for handle in self._history.active():
            handle.stop()
        self._databases.stop_all()

    def poll(self, interval: float | Entity = 10, verbose: bool = True, kill_on_interrupt: bool = True) -> None:
        """Wait until everything but databases has ended.

        Arguments:
            interval: seconds between two lines of progress where there is no terminal; the end itself is noticed at once. A model
                or an ensemble instead: wait for the run of its latest start alone
            verbose: show progress
            kill_on_interrupt: as for `start`

        Raises:
            InputTypeError: `interval` is neither
            RunNotFoundError: the entity was never started
        """
        from taskensemble.entity import Ensemble, Model

        if isinstance(interval, (Model, Ensemble)):
            awaited, interval = [self._history.latest(interval.name).handle], 10
        else:
            awaited = self._history.active()
        if isinstance(interval, bool) or not isinstance(interval, (int, float)):
            raise InputTypeError(
                f"interval={interval!r} is a {type(interval).__name__}; give seconds, or a model or an ensemble."
            )
        if interval < 0:
            raise InputError(f"interval={interval!r}; give 0 seconds or more.")
        try:
            for handle in awaited:
                handle.wait(progress=progress(not verbose, interval=interval))
        except KeyboardInterrupt as interrupt:
            self._interrupted(kill_on_interrupt)
            raise interrupt.with_traceback(None) from None  # in which socket it waited is of no use to a driver

    def finished(self, entity: Entity) -> bool:
        """Whether an entity has ended: of an ensemble, all members.

        Raises:
            InputTypeError: no model or ensemble
            InputError: it was never started
        """
        from taskensemble.entity import Ensemble, Model

        if not isinstance(entity, (Model, Ensemble)):
            raise InputTypeError(f"entity={entity!r} is a {type(entity).__name__}; give a model or an ensemble.")
        try:
            place = self._history.latest(entity.name)
        except RunNotFoundError as error:
            raise InputError(str(error)) from None
        return place.ended()

    def get_status(self, *entities: Entity) -> list[Status]:
        """One status for each model, then each member of the ensembles, then each database.

        Raises:
            InputTypeError: something that is no entity
            InputError: an empty ensemble
        """
        from taskensemble.entity import Database, Ensemble, Model
        from taskensemble.plan import check_entities

        checked = check_entities(entities)
        statuses: list[Status] = []
        for entity in sorted(
            checked, key=lambda entity: 0 if isinstance(entity, Model) else 1 + isinstance(entity, Database)
        ):
            if isinstance(entity, Database):
                statuses.append(self._databases.state(entity))
            else:
                statuses.extend(self._history.states(entity.name, len(entity) if isinstance(entity, Ensemble) else 1))
        return statuses

    def results(self, *entities: Entity, frame: bool = False) -> Any:
        """What became of the latest start of entities, all that were started if none is given: one row a member.

        After `resume`, members that had completed before are among the rows; of an adaptive ensemble, those of every round.

        Arguments:
            frame: give a pandas DataFrame with flat columns (`params.THERMO`) instead of a list of dicts

        Returns:
            list of dict: see `taskensemble.results.rows`

        Raises:
            InputTypeError: something that is no entity
            RunNotFoundError: one was never started
            ImportError: pandas is not installed
        """
        from taskensemble.plan import check_entities
        from taskensemble.results import frame as as_frame

        names = [entity.name for entity in check_entities(entities)] if entities else self._history.names()
        rows = [row for name in names for row in self._history.results(name)]
        return as_frame(rows) if frame else rows

    def summary(self, style: str = "github") -> str:
        """A table of everything that was started, a row for each run of a model or member.

        Arguments:
            style: a table format of the package tabulate: github, plain, simple, grid, html, …
        """
        from taskensemble.summary import experiment_summary

        return experiment_summary(self._history, self._databases, style)

    def preview(
        self,
        *entities: Entity,
        verbosity_level: str = "info",
        output_format: str = "plain_text",
        output_filename: str | None = None,
    ) -> str:
        """What a start of these entities would run, without running anything; printed, or written to a file.

        Arguments:
            verbosity_level: info (entities and databases), debug (commands, files, environments), developer (the records)
            output_format: plain_text or json
            output_filename: a file to write it to instead

        Returns:
            str: the same text

        Raises:
            PreviewFormatError: an unknown format
            InputError: an unknown level; else as `start`
        """
        from taskensemble.entity import Database
        from taskensemble.plan import check_entities
        from taskensemble.preview import check_arguments, render

        check_arguments(verbosity_level, output_format)
        checked = check_entities(entities)
        databases = [entity for entity in checked if isinstance(entity, Database)]
        identifiers = [*self._databases.active(), *(database.db_identifier for database in databases)]
        planned = self._plan(
            [entity for entity in checked if not isinstance(entity, Database)], "preview", databases=identifiers
        )
        text = render(self, planned, [*self._databases.active().values(), *databases], verbosity_level, output_format)
        if output_filename is None:
            print(text)
        else:
            Path(output_filename).write_text(text + "\n", encoding="utf-8")
        return text

    # Coming back

    @overload
    def reconnect(self, run_id: str) -> RunHandle: ...
    @overload
    def reconnect(self, run_id: str, *, generator: RoundGenerator, model: Model) -> AdaptiveHandle: ...
    def reconnect(
        self, run_id: str, *, generator: RoundGenerator | None = None, model: Model | None = None
    ) -> RunHandle | AdaptiveHandle:
        """The handle of a run that another process started, or this one earlier; the driver may have died meanwhile.

        Where the run's embedded control plane ended with its driver, it is brought back from its append-only file, and what of
        the run has not ended goes on here.

        Arguments:
            generator, model: of an adaptive ensemble, whose latest round has that id; its handle's `wait` goes on from there

        Raises:
            RunNotFoundError: the experiment has no such run
            ControlPlaneError: it does not answer
            InputError: a generator without its model; a model or a generator that the run was not begun with
        """
        adaptive: AdaptiveHandle | None = None
        if generator is not None or model is not None:
            from taskensemble.adaptive import AdaptiveHandle

            if generator is None:
                raise InputError("generator: give the generator of the adaptive ensemble beside its model.")
            if model is None:
                raise InputError(
                    "model: give it beside the generator, made as in the driver that began (create_model with the same name, run "
                    "settings, files and ML assets): the records have what its members run, not what new ones are made of. "
                    "Without both, reconnect gives the handle of that round alone."
                )
            adaptive = AdaptiveHandle(self, model, generator)
        control = self._connection.reading()
        if control is None:
            raise RunNotFoundError(f"run_id={run_id!r}: nothing was ever started in {self.exp_path}.")
        handle = RunHandle.open(control, run_id, collects=True)
        if not handle.finished():
            self._databases.publish(control)
            self._connection.start_worker(control)
            control.jobs.adopt(handle.record)
        rounds = [handle]
        with suppress(RunNotFoundError) if adaptive is None else nullcontext():
            # A resumed run may have outlived the records of what it goes on from; rounds are needed from the first.
            while (parent := rounds[0].record.parent) is not None:
                rounds.insert(0, RunHandle.open(control, parent, collects=True))
        for each in rounds:
            self._history.add(each)
        if adaptive is None:
            return handle
        adaptive.replay(rounds)
        return adaptive

    def attach_database(self, url: str, identifier: str = "orchestrator") -> Database:
        """Use a database that somebody else runs, with our AI module or RedisAI's. It is never stopped.

        Its address is kept in the file `Database.checkpoint_file` until it is let go with `stop`.

        Arguments:
            url: `redis://[[user]:password@]host:port`, `host:port`, or `unix://path`; of a cluster, any shard
            identifier: names it among several, as in `create_database`

        Raises:
            InputError: the URL is none of these
            DatabaseError: nothing answers there, or it does not know the AI commands
            DatabaseIdentifierError: an active database has the identifier
        """
        from taskensemble.database import attach_database

        self._databases.check_free(identifier)
        return self._databases.attach(attach_database(url, identifier))

    def reconnect_orchestrator(self, checkpoint: str | os.PathLike[str]) -> Database:
        """The running database that a driver started, from the file of its address (`Database.checkpoint_file`).

        Raises:
            FileNotFoundError: no such file
            DatabaseFilesError: it cannot be read
            DatabaseError: the database no longer answers
            DatabaseIdentifierError: an active database has its identifier
        """
        return self._databases.reconnect(Path(checkpoint))

    def resume(
        self, run_id: str, *, block: bool = True, quiet: bool = False, kill_on_interrupt: bool = True
    ) -> RunHandle:
        """Run again what failed, was cancelled or never ran of a run, in the folders it has.

        Returns:
            RunHandle: of the new run, whose record names the old one as its parent; of the old one when all of it has completed

        Raises:
            RunNotFoundError: the experiment has no such run
            InputError: it has not ended
            EntityExistsError: one of its entities runs again already
            AssetError: its ML assets are no longer stored
        """
        from taskensemble.resume import resumed

        old = self.reconnect(run_id)
        control = self._connection.working()
        self._databases.publish(control)
        if old.finished():
            self._history.refuse_running(entity.name for entity in old.record.entities)
        handle = resumed(control, run_id)
        if handle is None:
            return old
        self._history.add(handle)
        try:
            if block:
                handle.wait(progress=progress(quiet))
        except KeyboardInterrupt as interrupt:
            self._interrupted(kill_on_interrupt)
            raise interrupt.with_traceback(None) from None  # in which socket it waited is of no use to a driver
        return handle

    # The experiment's own

    @property
    def db_identifiers(self) -> set[str]:
        """Identifiers of the databases that are active."""
        return set(self._databases.active())

    def close(self) -> None:
        """End what the experiment brought up and nobody else uses: the embedded worker and control plane. Their records stay.

        Runs of an embedded control plane that have not ended are stopped with it.
        """
        self._connection.close()

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *error: object) -> None:
        if self.ends_with_driver:
            self.stop_all()
        self.close()

    def active_runs(self) -> list[RunHandle]:
        """Its runs that have not ended, the oldest first."""
        return self._history.active()

    # Parts of its own

    @property
    def ends_with_driver(self) -> bool:
        """Whether what it starts ends with this process: there is neither a broker nor a kept control plane."""
        return self._connection.ends_with_driver

    @property
    def has_worker(self) -> bool:
        """Whether a worker of this process runs members: beside its embedded control plane, or in its allocation."""
        return self._connection.has_worker

    @property
    def database_class(self) -> type[Database]:
        """What a database is described by."""
        return self._entity_classes()[2]

    def reserve_nodes(self, job_id: str, nodes: Iterable[str]) -> None:
        """Keep members off these nodes of the allocation: databases run there."""
        self._connection.working().store.reserve_nodes(job_id, nodes)

    def record_store(self) -> tuple[bool, str]:
        """Whether the record store is this driver's own, and its address."""
        control = self._connection.working()
        return control.is_own, control.store_url

    def forget_database(self, identifier: str) -> None:
        """Take a database that was stopped out of the records, so that no further attempt looks for it."""
        plane = self._connection.open_plane
        if plane is not None:
            plane.store.drop_database(self.exp_path, identifier)

    def _generated_as_is(self, entities: Sequence[Entity]) -> list[str]:
        """Those whose folders were made ahead, for as many members as they have now."""
        from taskensemble.entity import Ensemble

        sizes = {entity.name: len(entity) if isinstance(entity, Ensemble) else 1 for entity in entities}
        return [name for name, size in sizes.items() if self._generated.get(name) == size]

    def _completed(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self._history.completed(name)]

    def _ensemble_name(self) -> str:
        """The name of an ensemble that was given none: ensemble, ensemble_1, …"""
        number = self._unnamed_ensembles
        self._unnamed_ensembles += 1
        return f"ensemble_{number}" if number else "ensemble"
