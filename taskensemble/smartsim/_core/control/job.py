"""One start of an entity, as SmartSim's scripts look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from taskensemble.smartsim.status import SmartSimStatus


@dataclass
class Job:
    """An entity that was started.

    Attributes:
        name: of the entity, or of an ensemble's member.
        jid: the run's id.
        entity: what was started.
        launcher: the experiment's.
        is_task: whether no scheduler started it.
        status: when this was made; it does not change by itself.
    """

    name: str
    jid: str | None
    entity: Any
    launcher: str
    is_task: bool
    status: SmartSimStatus = SmartSimStatus.STATUS_NEW

    @property
    def ename(self) -> str:
        """Name of the entity."""
        return str(self.entity.name)


@dataclass
class Jobs:
    """What an experiment has started, at one moment: look again for a later one.

    Attributes:
        jobs: models and members that have not ended, by name.
        db_jobs: databases that run, by name.
        completed: models and members that have ended, by name.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    db_jobs: dict[str, Job] = field(default_factory=dict)
    completed: dict[str, Job] = field(default_factory=dict)

    def get_db_host_addresses(self) -> dict[str, list[str]]:
        """Addresses of every server of the databases that run, by identifier."""
        return {job.entity.db_identifier: list(job.entity.get_address()) for job in self.db_jobs.values()}


@dataclass
class JobEntity:
    """An entity as a launched manifest tells of it, for scripts that read manifests.

    Attributes:
        name, type, path: of the entity; its type in small letters, such as `model` or `orchestrator`.
        step_id: of a job of a scheduler's.
        task_id: of a process.
        timestamp: when it was started.
        status_dir: the folder of what is told of it.
        telemetry_on: whether telemetry was wanted.
        collectors: file of each sample that was wanted.
        config: host and port of a database.
    """

    name: str = ""
    path: str = ""
    step_id: str = ""
    task_id: str = ""
    type: str = ""
    timestamp: int = 0
    status_dir: str = ""
    telemetry_on: bool = False
    collectors: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)

    @property
    def is_db(self) -> bool:
        """Whether it is a database or one of its servers."""
        return self.type in ("orchestrator", "dbnode")

    @property
    def is_managed(self) -> bool:
        """Whether a scheduler started it."""
        return bool(self.step_id)


__all__ = ["Job", "JobEntity", "Jobs"]
