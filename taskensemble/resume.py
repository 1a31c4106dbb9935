"""Running again what a run did not complete."""

from __future__ import annotations

import os
import shlex
import socket
import time

from taskensemble.engine.allocation import BatchRecord, from_environment
from taskensemble.engine.records import EntityRecord, MemberRecord, RunRecord, State
from taskensemble.errors import AllocationError, AssetError, InputError
from taskensemble.handle import RunHandle, new_run_id, submit
from taskensemble.launch.batch import JobPaths, batch_queue, read_job
from taskensemble.launch.control import ControlPlane


def resumed(control: ControlPlane, run_id: str) -> RunHandle | None:
    """Start a run of the members of `run_id` that failed, were cancelled or never ran, in the folders they have.

    Returns:
        the new run, whose record names the old one as its parent; None when every member has completed

    Raises:
        RunNotFoundError: no such run
        InputError: the run has not ended
        AllocationError: an entity had a batch job, and its settings are gone or its scheduler refuses another one; or it ran in
            an allocation, and this process, which would start its worker, is in none
    """
    old = RunHandle.open(control, run_id)
    state = old.status().state
    if not state.final:
        raise InputError(f"run_id={run_id!r} is {str(state).lower()}: wait for it or stop it before it is resumed.")
    record, members = unfinished(old)
    if not members:
        return None
    if control.is_own and record.needs_allocation and from_environment(os.environ) is None:
        raise AllocationError(
            f"{run_id} ran in an allocation, and this process is in none: resume it inside one "
            f"(`salloc -N 1 taskensemble resume {run_id} -p {shlex.quote(str(control.folder))}`)."
        )
    record, batches = _with_jobs(control, old.record, record)
    assets = {}
    for asset in {asset.digest: asset for template in record.templates for asset in template.assets}.values():
        if asset.path is not None:
            continue
        content = control.store.asset(run_id, asset.digest)
        if content is None:
            raise AssetError(
                f"The asset {asset.name!r} of {run_id} is no longer stored: start the ensemble again from its driver."
            )
        assets[asset.digest] = content
    if record.transfer is not None:
        from taskensemble.transfer import repack

        assets.update(repack(control.store, old.record, record))
    handle = submit(control, record, members, assets, control.store.secrets(run_id))
    if batches:
        control.jobs.submit(record, batches)
    return handle


def _with_jobs(control: ControlPlane, old: RunRecord, new: RunRecord) -> tuple[RunRecord, dict[str, BatchRecord]]:
    """The new run with batch queues of its own, and the batch job that each of them needs: those of the old run have ended."""
    names = {entity.name: entity.index for entity in new.entities}
    queues: dict[str, str] = {}
    batches: dict[str, BatchRecord] = {}
    for entity in old.entities:
        queue = batch_queue(old.run_id, entity.index)
        if entity.name not in names or not any(template.batch_queue == queue for template in old.templates):
            continue
        file = JobPaths.of(control.folder, queue).file
        try:
            batch = read_job(file).batch
        except (OSError, ValueError) as error:
            raise AllocationError(
                f"{entity.name!r} of {old.run_id} ran in a batch job, whose settings cannot be read from {file} ({error}): "
                "start it again from its driver."
            ) from error
        queues[queue] = batch_queue(new.run_id, names[entity.name])
        batches[queues[queue]] = batch
    templates = tuple(
        template.model_copy(update={"batch_queue": queues.get(template.batch_queue, template.batch_queue)})
        for template in new.templates
    )
    return new.model_copy(update={"templates": templates}), batches


def unfinished(old: RunHandle) -> tuple[RunRecord, list[MemberRecord]]:
    """Records of a run of what `old` did not complete. Entities that are left without members are left out, and count as done for
    those that came after them."""
    entities: list[EntityRecord] = []
    members: list[MemberRecord] = []
    new_index: dict[int, int] = {}
    for entity in old.record.entities:
        left = [member for member, attempt in old.members(entity.index) if attempt.state is not State.COMPLETED]
        if not left:
            continue
        new_index[entity.index] = len(entities)
        first = len(members)
        members.extend(
            member.model_copy(
                update={"index": first + place, "entity": len(entities), "path": str(old.member_path(member))}
            )
            for place, member in enumerate(left)
        )
        entities.append(entity.model_copy(update={"index": len(entities), "first": first, "size": len(left)}))
    # Only now: an entity may come after one that stands behind it in the run.
    entities = [
        entity.model_copy(update={"after": tuple(new_index[each] for each in entity.after if each in new_index)})
        for entity in entities
    ]
    run = old.record.model_copy(
        update={
            "run_id": new_run_id(old.record.experiment),
            "created": time.time(),
            "entities": tuple(entities),
            "overwrite": False,
            "driver": f"{socket.gethostname()}:{os.getpid()}",
            "parent": old.run_id,
        }
    )
    return run, members
