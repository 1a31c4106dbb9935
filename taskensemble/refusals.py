"""What is refused before anything is brought up for a start: what runs already, and what would wait for ever.

What waits for something that may still come is warned of alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskensemble.engine.allocation import check_room, of_this_process
from taskensemble.engine.urls import without_password

if TYPE_CHECKING:
    from taskensemble.engine.records import RunRecord
    from taskensemble.entity import Entity
    from taskensemble.history import History
    from taskensemble.launch.control import ControlPlane
    from taskensemble.plan import Plan

logger = logging.getLogger("taskensemble")


def check_idle(history: History, entities: Sequence[Entity]) -> None:
    """Refuse what runs already: two at once would write into one folder and under the same keys.

    Raises:
        EntityRunningError: a start of one of them has not ended
    """
    from taskensemble.entity import Ensemble

    started = set(history.names())
    names: dict[str, None] = {}
    for entity in entities:
        names[entity.name] = None
        if isinstance(entity, Ensemble):
            names |= dict.fromkeys(member.name for member in entity.members.made())
            names |= dict.fromkeys(name for name in entity.member_names() if name in started)
    history.refuse_running(names)


def check_settings(launcher: str, entities: Sequence[Entity]) -> None:
    """Refuse run and batch settings of another scheduler than the launcher's.

    Raises:
        UnsupportedSettingsError: such settings; the message names their owner
    """
    from taskensemble.entity import Ensemble
    from taskensemble.settings import RunSettings, check_supported

    for entity in entities:
        prototypes = [entity.prototype, *entity.members.made()] if isinstance(entity, Ensemble) else [entity]
        for each in prototypes:
            if isinstance(each.run_settings, RunSettings):
                check_supported(launcher, each.run_settings, each.name)
        batch_settings = getattr(entity, "batch_settings", None)
        if batch_settings is not None:
            check_supported(launcher, batch_settings, entity.name)


def check_worker(launcher: str, plan: Plan, slots: int | None, plane: ControlPlane | None) -> None:
    """Refuse what would wait for ever on the embedded worker, unless somebody put another one beside it.

    Raises:
        InputError: a member needs more than the embedded worker has
    """
    from taskensemble.launch.local import check_fits

    helped = plane is not None and len(plane.store.workers()) > 1
    if launcher == "local" and not helped:
        check_fits(plan.run, plan.members, slots)


def warn_of_no_allocation(launcher: str, plane: ControlPlane, run: RunRecord) -> None:
    """Say that members wait for a worker in an allocation where there is none: a worker beside them runs none of them."""
    if plane.has_worker or not run.needs_allocation or any(worker.job for worker in plane.store.workers()):
        return
    logger.warning(
        "launcher=%r: members run in allocations alone, and no worker of the control plane at %s is in one: they wait. "
        "`taskensemble scale` asks for allocations, `srun taskensemble worker` starts one in an allocation that is there; "
        "batch_settings=… gives an ensemble a job of its own; launcher='local' runs members on every worker.",
        launcher,
        without_password(plane.broker_url),
    )


def check_nodes(launcher: str, plan: Plan, reserved: Sequence[str]) -> None:
    """Refuse what would wait for ever in this allocation, whose nodes are all that this driver's worker has.

    Raises:
        AllocationError: a member needs more than the nodes that databases leave have
    """
    allocation = None if launcher == "local" else of_this_process()
    if allocation is not None:
        check_room(plan.run, allocation, reserved)
