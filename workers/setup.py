"""The task `setup`: the assets go into the databases, then the run becomes its chords."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import redis

from taskensemble import database
from taskensemble.engine import messages
from taskensemble.engine.records import AssetRecord, RunRecord
from taskensemble.engine.store import Store
from taskensemble.errors import AssetError, TaskensembleError
from workers import colocated
from workers.limits import Limits

logger = logging.getLogger("taskensemble.worker")


def setup(
    store: Store, publisher: messages.Publisher, run_id: str, token: str, lease: float, limits: Limits | None = None
) -> str:
    """Sets a run up, or fails it as a whole; what it says is for Flower.

    Arguments:
        token: names this attempt; a repeated message of a set up that goes on is refused.
        lease: seconds; another worker takes over when this one has not been heard of for so long.
        limits: which files this worker may read.
    """
    answer = store.begin_setup(run_id, token)
    if answer == "done":
        # It was interrupted between its record and its messages: those are published again, claims refuse what is too much.
        run = store.run(run_id)
        publish_entities(store, publisher, run, [entity.index for entity in run.entities if not entity.after])
        return "published again"
    if answer != "go":
        return answer
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(store, run_id, token, lease, over), daemon=True)
    beats.start()
    try:
        run = store.trusted_run(run_id)
        for template in run.templates:
            (limits or Limits()).check_assets(template.assets)
        load_assets(store, run)
    except redis.RedisError:
        raise  # the store is away: the reaper sees that this setup stands still
    except Exception as error:
        if not isinstance(error, TaskensembleError):
            logger.exception("The setup of %s failed", run_id, extra={"run": run_id})
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
    """Loads every asset of the run into every running database that its members use, and checks it there; what is meant for
    colocated databases is checked once on a throwaway one.

    Raises:
        TaskensembleError: an asset cannot be loaded, is not what it should be, or its database is not running.
    """
    standard: dict[str, dict[AssetRecord, None]] = {}
    for template in run.templates:
        for use in template.databases if template.assets else ():
            if use.colocated is None:
                standard.setdefault(use.identifier, {}).update(dict.fromkeys(template.assets))
    content = asset_reader(store, run.run_id)
    running = store.databases(run.path) if standard else {}
    for identifier, assets in standard.items():
        if identifier not in running:
            listed = ", ".join(repr(name) for name in running) or "none"
            raise AssetError(
                f"the database {identifier!r} is not running (running: {listed}); start it before its members"
            )
        database.load_assets(running[identifier], list(assets), content)
    checked: set[tuple[AssetRecord, ...]] = set()
    for template in run.templates:
        for use in template.databases if template.assets else ():
            if use.colocated is not None and template.assets not in checked:
                checked.add(template.assets)
                colocated.check(use, use.colocated, template.assets, content)


def asset_reader(store: Store, run_id: str) -> Callable[[AssetRecord], bytes]:
    """Reads the bytes of assets, from their file or the store; who loads them checks their hash."""

    def read(asset: AssetRecord) -> bytes:
        if asset.path is not None:
            return Path(asset.path).read_bytes()
        stored = store.asset(run_id, asset.digest)
        if stored is None:
            raise AssetError(
                f"the bytes of {asset.kind} {asset.name!r} are not in the record store; start the run again"
            )
        return stored

    return read


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
            batches.setdefault(maker.queue(entity, template), []).append(maker.text(index, entity, template, name=name))
        for queue, texts in batches.items():
            publisher.publish_raw(queue, texts)


def _beat(store: Store, run_id: str, token: str, lease: float, over: threading.Event) -> None:
    while not over.wait(min(lease / 12, 10.0)):
        if not store.beat_setup(run_id, token):
            return
