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


__all__ = ["Job", "Jobs"]
