"""The task `setup`: the assets go into the databases, then the run becomes its chords."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from taskensemble.engine import messages
from taskensemble.engine.records import RunRecord
from taskensemble.engine.store import Store
from taskensemble.errors import TaskensembleError

logger = logging.getLogger("taskensemble.worker")


def setup(store: Store, publisher: messages.Publisher, run_id: str, token: str, lease: float) -> str:
    """Sets a run up, or fails it as a whole; what it says is for Flower.

    Arguments:
        token: names this attempt; a repeated message of a set up that goes on is refused.
        lease: seconds; another worker takes over when this one has not been heard of for so long.
    """
    answer = store.begin_setup(run_id, token)
    if answer == "done":
        # It was interrupted between its record and its messages: those are published again, claims refuse what is too much.
        run = store.run(run_id)
        publish_entities(store, publisher, run, [entity.index for entity in run.entities if not entity.after])
        return "published again"
    if answer != "go":
        return answer
    run = store.run(run_id)
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(store, run_id, token, lease, over), daemon=True)
    beats.start()
    try:
        load_assets(store, run)
    except (TaskensembleError, OSError, ValueError) as error:
        store.fail_run(run_id, f"{type(error).__name__}: {error}")
        return f"failed: {error}"
    finally:
        over.set()
    if not store.ready(run_id, token):
        return "stopped"
    store.add_queues(messages.run_queues(run))
    publish_entities(store, publisher, run, [entity.index for entity in run.entities if not entity.after])
    return "published"


def load_assets(store: Store, run: RunRecord) -> None:
    """Loads every asset of the run into every running database that it is meant for, and checks it there.

    Raises:
        AssetError: an asset cannot be loaded, or is not what it should be.
    """
    if not any(template.assets for template in run.templates):
        return
    from taskensemble.database import load_run_assets

    load_run_assets(run, store.databases(run.path), lambda digest: store.asset(run.run_id, digest))


def publish_entities(store: Store, publisher: messages.Publisher, run: RunRecord, entities: Iterable[int]) -> None:
    """Releases entities and publishes their members."""
    for index in entities:
        if store.release(run.run_id, index):
            publish_members(store, publisher, run, index)


def publish_members(store: Store, publisher: messages.Publisher, run: RunRecord, entity: int) -> None:
    """Publishes the messages of all members of an entity, in bulk."""
    record = run.entities[entity]
    maker = messages.MemberMessages(run)
    for first in range(record.first, record.first + record.size, 2000):
        batches: dict[str, list[str]] = {}
        for index, template, name in store.member_heads(
            run.run_id, first, min(first + 2000, record.first + record.size)
        ):
            batches.setdefault(maker.queue(template), []).append(maker.text(index, entity, template, name=name))
        for queue, texts in batches.items():
            publisher.publish_raw(queue, texts)


def _beat(store: Store, run_id: str, token: str, lease: float, over: threading.Event) -> None:
    while not over.wait(min(lease / 12, 10.0)):
        if not store.beat_setup(run_id, token):
            return
