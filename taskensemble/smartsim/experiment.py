"""SmartSim's experiment: taskensemble's, with SmartSim's statuses, records and entities."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import taskensemble.experiment
from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.handle import EmptyRun, RunHandle, new_run_id
from taskensemble.plan import check_entities
from taskensemble.preview import check_arguments
from taskensemble.progress import progress
from taskensemble.smartsim._core.utils.serialize import save_launch_manifest
from taskensemble.smartsim.database.orchestrator import Orchestrator
from taskensemble.smartsim.entity.ensemble import Ensemble as SmartSimEnsemble
from taskensemble.smartsim.entity.entity import TelemetryConfiguration
from taskensemble.smartsim.entity.model import Model as SmartSimModel
from taskensemble.smartsim.preview import render, write_preview
from taskensemble.smartsim.records import write_records
from taskensemble.smartsim.status import SmartSimStatus
from taskensemble.summary import run_summary

AT_ONCE = 1024
"""Members at a time of the embedded worker, however few cores there are: SmartSim starts all at once, and coupled ones wait for
each other."""


class Experiment(taskensemble.experiment.Experiment):
    """A name and a folder: the factory of everything that runs in them. See `taskensemble.Experiment`."""

    def __init__(
        self, name: str, exp_path: str | os.PathLike[str] | None = None, launcher: str = "local", **keywords: Any
    ) -> None:
        super().__init__(name, exp_path, launcher, **({"slots": AT_ONCE} | keywords))
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
        save_launch_manifest(self, handle.run_id, entities)
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
