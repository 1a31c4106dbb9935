"""The task `completion`: the body of an entity's chord. It closes the entity and releases those that waited for it."""

from __future__ import annotations

from taskensemble.engine import messages
from taskensemble.engine.store import Store
from workers.setup import publish_entities


def completion(store: Store, publisher: messages.Publisher, run_id: str, entity: int) -> str:
    """Closes an entity that has nothing left, and the run with the last of them; what it says is for Flower."""
    run = store.run(run_id)
    released = store.complete(run_id, entity)
    publish_entities(store, publisher, run, released)
    if store.status(run_id).state.final:
        retire(store, publisher, run_id)
    return "closed"


def retire(store: Store, publisher: messages.Publisher, run_id: str) -> None:
    """Takes an ended run off the lists of what is active, and its queues with what waits in them."""
    names = [queue.name for queue in messages.run_queues(store.run(run_id))]
    store.drop_queues(names)
    if publisher.delete_queues(names):
        store.retire(run_id)  # else the reaper comes back to it
