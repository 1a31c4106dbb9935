"""What starts an experiment's entities, under the name that SmartSim's scripts know; and the steps of entities.

An experiment's controller starts through taskensemble's control plane and reads its records. One that was made alone starts
nothing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskensemble.entity import Database, Ensemble, Entity, Model
from taskensemble.errors import InputError, InputTypeError, UnsupportedError
from taskensemble.smartsim._core.control.job import Job, Jobs
from taskensemble.smartsim._core.control.manifest import Manifest
from taskensemble.smartsim._core.launcher.launcher import (
    Launcher,
    LocalLauncher,
    LSFLauncher,
    PBSLauncher,
    SGELauncher,
    SlurmLauncher,
)
from taskensemble.smartsim._core.launcher.step import Step
from taskensemble.smartsim.status import SmartSimStatus

if TYPE_CHECKING:
    from taskensemble.handle import RunHandle
    from taskensemble.smartsim.experiment import Experiment

LAUNCHERS: dict[str, type[Launcher]] = {
    "local": LocalLauncher,
    "slurm": SlurmLauncher,
    "pbs": PBSLauncher,
    "pals": PBSLauncher,
    "lsf": LSFLauncher,
    "sge": SGELauncher,
}


class Controller:
    """What starts the entities of an experiment.

    Parameters:
        launcher: local, slurm, pbs, pals, lsf or sge.
        experiment: the one that it starts for; None: it can tell steps only.

    Raises:
        TypeError: no launcher.
        UnsupportedError: one that is unknown.
    """

    def __init__(self, launcher: str = "local", experiment: Experiment | None = None) -> None:
        self._experiment = experiment
        self.init_launcher(launcher)

    def init_launcher(self, launcher: str | None) -> None:
        """Take another launcher.

        Raises:
            TypeError, UnsupportedError: as for the class.
        """
        if launcher is None:
            raise InputTypeError("launcher=None: Must provide a launcher")
        if launcher.lower() not in LAUNCHERS:
            raise UnsupportedError(f"Launcher type not supported: {launcher!r}; use one of {', '.join(LAUNCHERS)}")
        self._launcher = LAUNCHERS[launcher.lower()]()

    def start(
        self,
        exp_name: str,
        exp_path: str,
        manifest: Manifest,
        block: bool = True,
        kill_on_interrupt: bool = True,
        **keywords: Any,
    ) -> RunHandle:
        """Start the entities of a manifest: what `Experiment.start` does.

        Raises:
            UnsupportedError: this controller is of no experiment, or of another one.
        """
        if self._experiment is None or (exp_name, exp_path) != (self._experiment.name, self._experiment.exp_path):
            raise UnsupportedError(f"start: this controller is not that of the experiment {exp_name!r}; use its start")
        return self._experiment.launch(manifest, block=block, kill_on_interrupt=kill_on_interrupt, **keywords)

    def finished(self, entity: Entity) -> bool:
        """Whether a model or an ensemble has ended.

        Raises:
            TypeError: a database, which ends when it is stopped, or no entity.
            ValueError: it was never started here.
        """
        if isinstance(entity, Database):
            raise InputTypeError("Finished() does not support Orchestrator instances; ask is_active")
        if not isinstance(entity, Entity):
            raise InputTypeError(
                f"Argument was of type {type(entity)} not derived from SmartSimEntity or EntitySequence"
            )
        if self._experiment is None or entity.name not in self._experiment.started():
            raise InputError(f"Entity {entity.name} has not been launched in this experiment")
        return bool(self._experiment.finished(entity))

    def get_entity_status(self, entity: Entity) -> SmartSimStatus:
        """The state of a model.

        Raises:
            TypeError: no model.
            UnsupportedError: this controller is of no experiment.
        """
        if not isinstance(entity, Model):
            raise InputTypeError(f"Argument was of type {type(entity)}, not a model")
        return self._owner("get_entity_status").get_status(entity)[0]

    def get_entity_list_status(self, entity_list: Any) -> list[SmartSimStatus]:
        """The states of an ensemble's members, or of a database.

        Raises:
            TypeError: neither of them.
            UnsupportedError: this controller is of no experiment.
        """
        if not isinstance(entity_list, (Ensemble, Database)):
            raise InputTypeError(f"Argument was of type {type(entity_list)}, neither an ensemble nor a database")
        return self._owner("get_entity_list_status").get_status(entity_list)

    def reload_saved_db(self, checkpoint_file: str) -> Database:
        """The database that a checkpoint file tells of: what `Experiment.reconnect_orchestrator` gives.

        Raises:
            FileNotFoundError: there is no such file.
            SmartSimError: the database does not run any more; this controller is of no experiment.
        """
        if not os.path.exists(checkpoint_file):
            raise FileNotFoundError(f"The SmartSim database config file {checkpoint_file} cannot be found.")
        return self._owner("reload_saved_db").reconnect_orchestrator(checkpoint_file)

    def _owner(self, what: str) -> Experiment:
        if self._experiment is None:
            raise UnsupportedError(f"{what}: this controller is of no experiment; use an Experiment's own methods")
        return self._experiment

    @property
    def active_orchestrator_jobs(self) -> dict[str, Job]:
        """The databases that run, by name: at this moment, in a dictionary of the caller's own."""
        return self._jobs.db_jobs

    @property
    def _jobs(self) -> Jobs:
        """What was started, at this moment."""
        return Jobs() if self._experiment is None else self._experiment.jobs()

    def symlink_output_files(self, job_step: Step, entity: Any) -> None:
        """Link the output files of a step into an entity's folder, in place of links that are there.

        Raises:
            FileNotFoundError: the entity has no folder.
        """
        for source, ending in zip(job_step.get_output_files(), ("out", "err"), strict=True):
            link = Path(entity.path, f"{entity.name}.{ending}")
            if not link.parent.is_dir():
                raise FileNotFoundError(f"{entity.name!r} has no folder: {link.parent}; generate it first")
            Path(source).touch()
            if link.is_symlink():
                link.unlink()
            link.symlink_to(source)

    def _create_job_step(self, entity: Any, telemetry_dir: Path) -> Step:
        """The step of a model or of a database's server."""
        step = self._launcher.create_step(entity.name, entity.path, entity.run_settings)
        step.meta |= {"entity_type": str(entity.type).lower(), "status_dir": telemetry_dir / entity.name}
        return step

    def _create_batch_job_step(self, entity_list: Any, telemetry_dir: Path) -> tuple[Step, list[Step]]:
        """The batch step of an ensemble or a database, and those of its members."""
        folder = telemetry_dir / entity_list.name
        batch = self._launcher.create_step(entity_list.name, entity_list.path, entity_list.batch_settings)
        batch.meta |= {"entity_type": str(entity_list.type).lower(), "status_dir": folder}
        steps = []
        for entity in entity_list.entities:
            entity.run_settings.in_batch = True
            steps.append(self._create_job_step(entity, folder))
            batch.add_to_batch(steps[-1])
        return batch, steps


class _AnonymousBatchJob:
    """A model alone in a batch job, in the form of an ensemble."""

    type = "Model"

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.path: str | os.PathLike[str] = model.path
        self.entities = [model]
        self.batch_settings = model.batch_settings


def jobs_of(
    entities: Iterable[tuple[Entity, str, list[SmartSimStatus]]], databases: Iterable[Database], launcher: str
) -> Jobs:
    """What was started, sorted.

    Parameters:
        entities: each with the id of its latest run and the states of its members.
        databases: those that run.
    """
    found = Jobs()
    for entity, run_id, states in entities:
        names = entity.member_names() if isinstance(entity, Ensemble) else itertools.repeat(entity.name)
        for name, state in zip(names, states, strict=False):
            ended = state in (
                SmartSimStatus.STATUS_COMPLETED,
                SmartSimStatus.STATUS_FAILED,
                SmartSimStatus.STATUS_CANCELLED,
            )
            kept = found.completed if ended else found.jobs
            kept[name] = Job(name, run_id, entity, launcher, launcher == "local", state)
    for database in databases:
        found.db_jobs[database.name] = Job(
            database.name, None, database, launcher, launcher == "local", SmartSimStatus.STATUS_RUNNING
        )
    return found


__all__ = ["Controller"]
