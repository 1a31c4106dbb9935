"""SmartSim's experiment: taskensemble's, with SmartSim's statuses, records and entities."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import taskensemble.experiment
from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.errors import PreviewFormatError
from taskensemble.generation.folders import folder_path, keep_outputs, linked_outputs
from taskensemble.handle import EmptyRun, RunHandle, new_run_id
from taskensemble.plan import Plan, check_entities
from taskensemble.preview import FORMATS, check_arguments
from taskensemble.progress import progress
from taskensemble.smartsim._core.control.controller import Controller, jobs_of
from taskensemble.smartsim._core.control.job import Jobs
from taskensemble.smartsim._core.control.manifest import LaunchedManifestBuilder, Manifest
from taskensemble.smartsim._core.utils.serialize import save_launch_manifest
from taskensemble.smartsim.database.orchestrator import Orchestrator
from taskensemble.smartsim.entity.ensemble import Ensemble as SmartSimEnsemble
from taskensemble.smartsim.entity.entity import TelemetryConfiguration
from taskensemble.smartsim.entity.model import Model as SmartSimModel
from taskensemble.smartsim.interrupts import watch
from taskensemble.smartsim.preview import render, write_preview
from taskensemble.smartsim.records import write_records
from taskensemble.smartsim.status import SmartSimStatus
from taskensemble.summary import run_summary

AT_ONCE = 1024
"""Members at a time of the embedded worker, however few cores there are: SmartSim starts all at once, and coupled ones wait for
each other."""

AHEAD = 1000
"""Members of a start whose folders, and the links to whose output, the driver makes. Of more, workers make the folders side by
side, and output stands in them: the driver, one after the other, would need seconds for 10,000."""


class Experiment(taskensemble.experiment.Experiment):
    """A name and a folder: the factory of everything that runs in them. See `taskensemble.Experiment`."""

    def __init__(
        self, name: str, exp_path: str | os.PathLike[str] | None = None, launcher: str = "local", **keywords: Any
    ) -> None:
        super().__init__(name, exp_path, launcher, **({"slots": AT_ONCE} | keywords))
        self._control = Controller(self.launcher, self)
        self._entities: dict[str, Entity] = {}
        self._kill_on_interrupt = True
        self.telemetry = TelemetryConfiguration(os.environ.get("SMARTSIM_FLAG_TELEMETRY", "1") != "0")

    def _entity_classes(self) -> tuple[type[Model], type[Ensemble], type[Database]]:
        return SmartSimModel, SmartSimEnsemble, Orchestrator

    def generate(
        self, *entities: Entity, tag: str | None = None, overwrite: bool = False, verbose: bool = False
    ) -> None:
        """Make the folders and files of entities, and SmartSim's records of their parameters.

        Raises:
            FileExistsError, ParameterWriterError: as `taskensemble.Experiment.generate`.
        """
        for entity in entities:
            if isinstance(entity, Entity):
                entity.place(os.path.join(self.exp_path, entity.name))
        Path(self.exp_path).mkdir(parents=True, exist_ok=True)
        if entities:
            super().generate(*entities, tag=tag, overwrite=overwrite, verbose=verbose)
        for entity in entities:
            if isinstance(entity, Database):
                Path(entity.path).mkdir(parents=True, exist_ok=True)
        write_records(self.exp_path, entities, tag, datetime.now())

    def start(
        self,
        *entities: Entity,
        block: bool = True,
        summary: bool = False,
        kill_on_interrupt: bool = True,
        together: bool = False,
        quiet: bool = False,
    ) -> RunHandle:
        """Start entities; see `taskensemble.Experiment.start`. With `block`, wait for everything that the experiment runs.

        Raises:
            TypeError, AttributeError, ValueError, SmartSimError: as there. Nothing at all may be started, though.
        """
        manifest = Manifest(*entities)
        self._make_folders(entities)
        return self._control.start(
            self.name,
            self.exp_path,
            manifest,
            block,
            kill_on_interrupt,
            summary=summary,
            together=together,
            quiet=quiet,
        )

    def launch(
        self,
        manifest: Manifest,
        *,
        block: bool = True,
        summary: bool = False,
        kill_on_interrupt: bool = True,
        together: bool = False,
        quiet: bool = False,
    ) -> RunHandle:
        """Start the entities of a manifest, whose folders are there: what `start` does last.

        Raises:
            TypeError, AttributeError, ValueError, SmartSimError: as `start`.
        """
        entities = manifest.deployables
        handle: RunHandle = EmptyRun(self._plan([], new_run_id(self.name)).run)
        if entities:
            handle = super().start(
                *entities,
                block=False,
                summary=summary,
                kill_on_interrupt=kill_on_interrupt,
                together=together,
                quiet=quiet,
            )
        self._entities |= {entity.name: entity for entity in entities if not isinstance(entity, Database)}
        self._save_manifest(handle.run_id, manifest)
        self._kill_on_interrupt = kill_on_interrupt
        watch(self)
        if not block:
            return handle
        try:
            handle.wait(progress=progress(quiet))
        except KeyboardInterrupt:
            self._interrupted(kill_on_interrupt)
            raise
        self.poll(verbose=not quiet, kill_on_interrupt=kill_on_interrupt)
        if summary and handle.record.entities:
            print(run_summary(handle), flush=True)
        return handle

    def interrupted(self) -> None:
        """Ctrl-C came: stop everything of the experiment, or tell what goes on, as the latest start said."""
        self._interrupted(self._kill_on_interrupt)

    def _make_folders(self, entities: tuple[Entity, ...]) -> None:
        """Make the folders of what is started, as far as they are not there: programs may count on them, whatever else fails."""
        for entity in entities:
            entity.place(os.path.join(self.exp_path, entity.name))
            Path(entity.path).mkdir(parents=True, exist_ok=True)
            if isinstance(entity, Ensemble) and len(entity) <= AHEAD:
                own = {member.name: member.path for member in entity.members.made()}
                for name in entity.member_names():
                    os.makedirs(own.get(name) or os.path.join(entity.path, name), exist_ok=True)

    def _launch(self, planned: Plan, databases: Sequence[Database]) -> RunHandle:
        if self._transfer is None and len(planned.members) <= AHEAD:
            self._link_outputs(planned)
        handle = super()._launch(planned, databases)
        for database in databases:
            _link_servers(database)
        return handle

    def _link_outputs(self, planned: Plan) -> None:
        """Let `<name>.out` and `.err` in members' folders be links to files of this run alone, as SmartSim's are.

        A worker writes where the links point. Of what is kept for failures only there are no links: with them it would stay.
        """
        run = planned.run
        told = linked_outputs(run)
        for member in planned.members:
            entity = run.entities[member.entity]
            if run.templates[member.template].policy.keep_outputs != "all":
                continue
            target = f"{told}/{entity.kind.lower()}/{entity.name}"
            if entity.kind == "Ensemble":
                target += f"/{member.name}"
            os.makedirs(target, exist_ok=True)
            folder = folder_path(entity, member)
            for ending in ("out", "err"):
                _link(f"{folder}/{member.name}.{ending}", f"{target}/{member.name}.{ending}")

    def _save_manifest(self, run_id: str, manifest: Manifest) -> None:
        builder: LaunchedManifestBuilder[None] = LaunchedManifestBuilder(
            self.name, self.exp_path, self.launcher, run_id
        )
        for model in manifest.models:
            builder.add_model(model, None)
        for ensemble in manifest.ensembles:
            builder.add_ensemble(ensemble, [None] * len(ensemble))
        for database in manifest.dbs:
            builder.add_database(database, [None] * len(database))
        save_launch_manifest(builder.finalize())

    def started(self) -> dict[str, Entity]:
        """Models and ensembles that were started, by name."""
        return dict(self._entities)

    def jobs(self) -> Jobs:
        """What was started, at this moment."""
        listed = [
            (entity, self._history.latest(name).handle.run_id, self.get_status(entity))
            for name, entity in self._entities.items()
        ]
        return jobs_of(listed, self._databases.active().values(), self.launcher)

    def preview(
        self,
        *entities: Entity,
        verbosity_level: str = "info",
        output_format: str = "plain_text",
        output_filename: str | None = None,
    ) -> str:
        """What a start of these entities would run; see `taskensemble.Experiment.preview`. A file that is there is kept.

        Raises:
            PreviewFormatError, InputError: as there.
        """
        level, text_format = (str(getattr(each, "value", each)) for each in (verbosity_level, output_format))
        if text_format not in FORMATS:
            raise PreviewFormatError(
                f"output_format={text_format!r}: The only valid output format currently available is plain_text; taskensemble's "
                "own json is taken too"
            )
        check_arguments(level, text_format)
        if text_format != "plain_text":
            return super().preview(
                *entities, verbosity_level=level, output_format=text_format, output_filename=output_filename
            )
        active = self._databases.active()
        # What cannot be started cannot be previewed either.
        self._plan(
            [entity for entity in check_entities(entities) if not isinstance(entity, Database)],
            "preview",
            databases=[*active, *(entity.db_identifier for entity in entities if isinstance(entity, Database))],
        )
        text = render(self, entities, active, level)
        write_preview(text, output_filename)
        return text

    @property
    def _launcher(self) -> str:
        """The launcher, under the name that scripts of SmartSim's know."""
        return self.launcher

    def get_status(self, *entities: Entity) -> list[SmartSimStatus]:  # type: ignore[override]
        """One status for each model, then each member of the ensembles, then each database."""
        return [SmartSimStatus(str(status)) for status in super().get_status(*entities)]


def _link_servers(database: Database) -> None:
    """Link each server's output under the name that SmartSim gives it."""
    for number, node in enumerate(database.entities):
        written = [f"{database.path}/{name}.out" for name in (f"{database.name}_{number}", database.name)]
        for ending in ("out", "err"):
            link = f"{database.path}/{node.name}.{ending}"
            source = next((path for path in written if os.path.exists(path) and path != link), None)
            if source is not None and not os.path.exists(link):
                _link(link, source)


def _link(path: str, target: str) -> None:
    """Make a link in the place of an earlier one; a file that is there is kept under its next number."""
    try:
        os.symlink(target, path)
    except FileExistsError:
        if os.path.islink(path):
            os.unlink(path)
        else:
            folder, name = os.path.split(path)
            keep_outputs(folder, name.rpartition(".")[0])
        os.symlink(target, path)
