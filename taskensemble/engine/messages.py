"""Messages: the names of the three tasks, the queues, and publishing in bulk.

Messages are Celery's (protocol 2, JSON), made here without Celery: a driver imports none of it, and 100,000 of them are
written in a few pipelined commands. A member's message carries the run and the member's index; what to run stands in the record.

    te.service               setup and completion, read by every worker
    te.run.<run>.<class>…    members of one run and one resource class, read by workers that could ever fit them
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from taskensemble.engine import signing, urls
from taskensemble.engine.records import QueueRecord, RunRecord, TemplateRecord

if TYPE_CHECKING:
    import redis

SETUP = "taskensemble.setup"
MEMBER = "taskensemble.member"
COMPLETION = "taskensemble.completion"
SERVICE_QUEUE = "te.service"
QUEUE_PREFIX = "te.run."
_BATCH = 1000


def member_queue(run_id: str, template: TemplateRecord, *, together: bool = False) -> str:
    """Queue of a run for the members of one resource class (and of one batch queue); those that run together have their own."""
    name = f"{QUEUE_PREFIX}{run_id}.{template.resources.resource_class}{'.together' if together else ''}"
    return f"{name}@{template.batch_queue}" if template.batch_queue else name


def run_queues(run: RunRecord) -> list[QueueRecord]:
    """The queues that a run's members wait in."""
    found: dict[str, QueueRecord] = {}
    for template, together in itertools.product(run.templates, {entity.together for entity in run.entities}):
        name = member_queue(run.run_id, template, together=together)
        found[name] = QueueRecord(
            name=name,
            run=run.run_id,
            resources=template.resources,
            batch_queue=template.batch_queue,
            together=together,
        )
    return list(found.values())


def task_id(run_id: str, index: int, attempt: int = 1) -> str:
    """Celery's id of a member's attempt, unique and readable: Flower shows it."""
    return f"{run_id}:{index}" if attempt <= 1 else f"{run_id}:{index}:{attempt}"


def parse_task_id(text: str) -> tuple[str, int] | None:
    """Run and index of a member's task; None for another task's id."""
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[1].isdigit():
        return None
    return parts[0], int(parts[1])


def envelope(
    task: str,
    identifier: str,
    args: Sequence[Any],
    *,
    queue: str,
    shadow: str,
    experiment: str,
    embed: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One task as kombu keeps it in a Redis list: body, headers and properties of Celery's protocol 2, signed with a key."""
    body = json.dumps([list(args), {}, embed or {}], separators=(",", ":"))
    keys = signing.from_environment()
    signature = {} if keys is None else {signing.HEADER: keys.sign(task, str(args[0]), body.encode())}
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": identifier,
            "root_id": str(args[0]),
            "parent_id": None,
            "group": None,
            "shadow": shadow,
            "argsrepr": repr(tuple(args)),
            "kwargsrepr": f"{{'experiment': {experiment!r}, 'run': {str(args[0])!r}}}",
            "retries": 0,
            "ignore_result": True,
            "origin": f"{os.getpid()}@{socket.gethostname()}",
            **signature,
        },
        "properties": {
            "correlation_id": identifier,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": identifier,
        },
    }


def setup_message(run: RunRecord) -> dict[str, Any]:
    """The message that starts a run."""
    shadow = f"setup {run.experiment}"
    return envelope(
        SETUP, f"{run.run_id}:setup", [run.run_id], queue=SERVICE_QUEUE, shadow=shadow, experiment=run.experiment
    )


def completion_message(run: RunRecord, entity: int) -> dict[str, Any]:
    """The body of an entity's chord."""
    shadow = f"completion {run.entities[entity].name}"
    identifier = f"{run.run_id}:completion:{entity}:{uuid.uuid4().hex[:8]}"
    return envelope(
        COMPLETION, identifier, [run.run_id, entity], queue=SERVICE_QUEUE, shadow=shadow, experiment=run.experiment
    )


def member_message(
    run: RunRecord, index: int, entity: int, template: int, *, name: str, attempt: int = 1
) -> dict[str, Any]:
    """One header task of an entity's chord."""
    queue = member_queue(run.run_id, run.templates[template], together=run.entities[entity].together)
    identifier = task_id(run.run_id, index, attempt)
    message = envelope(
        MEMBER, identifier, [run.run_id, index, entity], queue=queue, shadow=name, experiment=run.experiment
    )
    message["headers"]["group"] = f"{run.run_id}:chord:{entity}"
    message["headers"]["retries"] = attempt - 1
    return message


class Publisher:
    """Writes messages to a broker: in one pipelined write on Redis, through kombu on RabbitMQ.

    Arguments:
        url: the broker's.
        client: an open connection to the same Redis server, if there is one.
    """

    def __init__(self, url: str, client: redis.Redis | None = None) -> None:
        self.url = url
        self._redis = client
        self._amqp: Any = None
        self._declared: set[str] = set()
        if self._redis is None and urls.is_redis(url):
            import redis
            from redis.backoff import ExponentialBackoff
            from redis.retry import Retry

            self._redis = redis.Redis.from_url(
                urls.redis_url(url),
                protocol=2,
                retry=Retry(ExponentialBackoff(cap=1.0, base=0.02), 30),
                retry_on_error=[redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError],
                socket_timeout=30.0,
                socket_connect_timeout=5.0,
                max_connections=10_000,
            )

    def publish(self, messages: Iterable[dict[str, Any]]) -> int:
        """Publishes messages in their order; how many they were. A repeated message does no harm: claims refuse it."""
        count = 0
        batch: dict[str, list[str]] = {}
        waiting = 0
        for message in messages:
            queue = message["properties"]["delivery_info"]["routing_key"]
            batch.setdefault(queue, []).append(json.dumps(message, separators=(",", ":")))
            count += 1
            waiting += 1
            if waiting >= _BATCH:
                self._write(batch)
                batch, waiting = {}, 0
        if batch:
            self._write(batch)
        return count

    def publish_raw(self, queue: str, texts: list[str]) -> None:
        """Publishes messages that are JSON already."""
        self._write({queue: texts})

    def delete_queues(self, names: Iterable[str]) -> bool:
        """Deletes queues with all that waits in them. False: RabbitMQ keeps some, empty, because workers still read them."""
        listed = list(names)
        if self._redis is not None:
            if listed:
                self._redis.unlink(*listed)
            return True
        import amqp

        gone = True
        for name in listed:
            self._declared.discard(name)
            for attempt in (self._purge, self._remove):
                try:
                    attempt(name)
                except amqp.NotFound:
                    break
                except amqp.PreconditionFailed:
                    gone = False
        return gone

    def _purge(self, name: str) -> None:
        with self._connection().channel() as channel:
            channel.queue_purge(name)

    def _remove(self, name: str) -> None:
        # A queue that is deleted under a consumer would cost its worker the connection.
        with self._connection().channel() as channel:
            channel.queue_delete(name, if_unused=True)

    def some_queues(self, cursor: int) -> tuple[int, set[str]]:
        """Queues of runs that hold messages, a part of the broker's keys at a time; none where a broker cannot tell.

        Arguments:
            cursor: that the last call has returned; 0: from the start, and when all was seen.
        """
        if self._redis is None:
            return 0, set()
        following, names = cast(Any, self._redis.scan(cursor, match=f"{QUEUE_PREFIX}*", count=2000, _type="list"))
        return int(following), {name.decode() for name in names}

    def length(self, queue: str) -> int:
        """How many messages wait in a queue."""
        if self._redis is not None:
            return int(self._redis.llen(queue))
        self._declare(queue)
        return int(self._connection().default_channel.queue_declare(queue, passive=True).message_count)

    def waiting(self, queue: str) -> list[str] | None:
        """Ids of the tasks that wait in a queue; None where the broker cannot tell."""
        if self._redis is None:
            return None
        return [json.loads(text)["headers"]["id"] for text in self._redis.lrange(queue, 0, -1)]

    def close(self) -> None:
        """Closes the connection to a RabbitMQ broker."""
        if self._amqp is not None:
            self._amqp.release()
            self._amqp = None

    def _write(self, batch: dict[str, list[str]]) -> None:
        if self._redis is not None:
            pipe = self._redis.pipeline(transaction=False)
            for queue, texts in batch.items():
                pipe.lpush(queue, *texts)
            pipe.execute()
            return
        for queue, texts in batch.items():
            self._declare(queue)
            producer = self._connection().Producer(auto_declare=False)
            for text in texts:
                message = json.loads(text)
                properties = message["properties"]
                producer.publish(
                    base64.b64decode(message["body"]),
                    exchange="",
                    routing_key=queue,
                    content_type=message["content-type"],
                    content_encoding=message["content-encoding"],
                    headers=message["headers"],
                    correlation_id=properties["correlation_id"],
                    delivery_mode=2,
                    retry=True,
                    retry_policy={"max_retries": 30, "interval_max": 1.0},
                )

    def _connection(self) -> Any:
        if self._amqp is None:
            import kombu

            self._amqp = kombu.Connection(urls.celery_url(self.url), ssl=urls.amqp_tls(self.url) or False, heartbeat=0)
            self._amqp.ensure_connection(max_retries=30, interval_max=1.0)
        return self._amqp

    def _declare(self, queue: str) -> None:
        if queue not in self._declared:
            import kombu

            kombu.Queue(queue, kombu.Exchange(""), routing_key=queue, durable=True)(
                self._connection().default_channel
            ).declare()
            self._declared.add(queue)


def publish_setup(broker_url: str, run: RunRecord) -> None:
    """Starts a written run: publishes the message of its setup task."""
    publisher = Publisher(broker_url)
    try:
        publisher.publish([setup_message(run)])
    finally:
        publisher.close()


def delete_queues(broker_url: str, run: RunRecord) -> None:
    """Deletes the queues of a run with all that waits in them: what `stop` does after `Store.cancel`."""
    publisher = Publisher(broker_url)
    try:
        publisher.delete_queues(queue.name for queue in run_queues(run))
    finally:
        publisher.close()


class MemberMessages:
    """Makes the messages of many members of one run quickly: the text around what differs is made once a template."""

    _INDEX, _NAME, _ENTITY = 918273645, "\x01name\x01", 546372819

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._keys = signing.from_environment()
        self._formats: dict[tuple[int, int], str] = {}
        self._queues: dict[tuple[int, int], str] = {}
        self._run_id = json.dumps(run.run_id)

    def queue(self, entity: int, template: int) -> str:
        """Queue of an entity's members of a template."""
        known = self._queues.get((entity, template))
        if known is None:
            together = self._run.entities[entity].together
            known = member_queue(self._run.run_id, self._run.templates[template], together=together)
            self._queues[entity, template] = known
        return known

    def text(self, index: int, entity: int, template: int, *, name: str, attempt: int = 1) -> str:
        """The message as JSON; equal to `member_message`."""
        if attempt > 1:
            message = member_message(self._run, index, entity, template, name=name, attempt=attempt)
            return json.dumps(message, separators=(",", ":"))
        known = self._formats.get((entity, template))
        if known is None:
            known = self._formats[entity, template] = self._format(entity, template)
        body = f"[[{self._run_id},{index},{entity}],{{}},{{}}]".encode()
        values = {"name": json.dumps(name)[1:-1], "body": base64.b64encode(body).decode(), "index": index}
        if self._keys is not None:
            values["signature"] = self._keys.sign(MEMBER, self._run.run_id, body)
        return known % values

    def _format(self, entity: int, template: int) -> str:
        sample = member_message(self._run, self._INDEX, entity, template, name=self._NAME)
        sample["body"] = "\x02"
        if self._keys is not None:
            sample["headers"][signing.HEADER] = "\x04"
        text = json.dumps(sample, separators=(",", ":")).replace("%", "%%")
        marks = {self._NAME: "name", "\x02": "body", "\x04": "signature"}
        for mark, field in marks.items():
            text = text.replace(json.dumps(mark)[1:-1], f"%({field})s")
        return text.replace(str(self._INDEX), "%(index)d")
