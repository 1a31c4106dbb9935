"""Celery's consumer, with two differences: queues come and go with runs, and members go on while the broker is away."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown
from kombu import Exchange, Queue

from taskensemble.engine import urls
from workers.members import Members
from workers.transport import Channel

logger = logging.getLogger("taskensemble.worker")


_EVENTS_AT_ONCE = 500
_TASK_EVENTS = "task.multi"
"""Routing key of batches."""
_NO_EVENTS = json.dumps(
    {
        "body": base64.b64encode(b"[]").decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": "celeryev", "routing_key": _TASK_EVENTS},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "nobody",
        },
    }
)
"""A batch of events without any."""


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """The consumer of the workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.members: Members = self.app.members
        self.members.on_queues = self._guarded(self._follow_queues)
        self.members.on_room = self._guarded(self._offer_room)
        Channel.plan = staticmethod(self.members.plan)
        self._flush_planned = False
        self._asking = False
        self._paused: set[str] = set()
        if not urls.is_redis(self.conninfo.as_uri()):
            self.members.on_surplus = self._guarded(self._give_back)

    def on_ready(self) -> None:
        """The consumer is connected."""
        super().on_ready()
        self._paused.clear()
        self._follow_queues()
        self.members.read_queues()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """What takes a message; one that Celery stumbles over is refused, or it would end one worker after the other."""
        handle = super().create_task_handler(*args, **kwargs)

        def take(message: Any) -> None:
            try:
                handle(message)
            except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
                logger.exception(
                    "Message %s is refused: its body or headers are none of a task: %s", message.delivery_tag, error
                )
                if not message.acknowledged:
                    message.reject()

        return take

    def ensure_connected(self, conn: Any) -> Any:
        """Connects, for as long as it takes; members are served meanwhile."""
        pause = 0.1
        while True:
            try:
                conn.ensure_connection(
                    max_retries=1, interval_start=0, interval_step=0, interval_max=0, reraise_as_library_errors=False
                )
                return conn
            except (*conn.connection_errors, *conn.channel_errors) as error:
                logger.warning("The broker %s cannot be reached: %s", urls.without_password(conn.as_uri()), error)
            until = time.monotonic() + pause
            while (left := until - time.monotonic()) > 0:
                maybe_shutdown()
                self.members.step(min(left, 0.2))
            pause = min(2.0, pause * 2)

    def on_send_event_buffered(self) -> None:
        """Events for Flower leave in batches: one message each tenth of a second costs a third of one each turn."""
        dispatcher = self.event_dispatcher
        if dispatcher is not None and dispatcher.buffer_limit != _EVENTS_AT_ONCE:
            dispatcher.buffer_limit = _EVENTS_AT_ONCE
        if not self._flush_planned:
            self._flush_planned = True
            self.hub.call_later(0.1, self._flush_planned_events)

    def _flush_planned_events(self) -> None:
        self._flush_planned = False
        self._flush_events()

    def _flush_events(self) -> None:
        """Publishes what waits. Where the last batch reached nobody, an empty one asks first whether somebody listens now: making
        the text of a batch is a tenth of what a member costs its worker."""
        dispatcher, line, channel = self.event_dispatcher, self.members.line_to_broker, None
        if line is not None and dispatcher is not None and dispatcher.producer is not None:
            with suppress(*self.connection_errors, *self.channel_errors):
                channel = dispatcher.producer.channel
        if line is None or not isinstance(channel, Channel) or self._asking:
            super()._flush_events()
            return
        topic = channel.unheard(dispatcher.exchange.name, _TASK_EVENTS)
        if not topic:
            super()._flush_events()
            return
        waiting = dispatcher._group_buffer["task"]
        asked_of = len(waiting)

        def answered(listeners: Any) -> None:
            self._asking = False
            if listeners == 0:
                del waiting[:asked_of]
            else:
                channel.heard.clear()
                self._guarded(super(Consumer, self)._flush_events)()

        self._asking = True
        line("PUBLISH", topic, _NO_EVENTS, callback=answered)

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Acknowledges at once: a worker that is about to end must not leave it to a loop that runs no more."""
        p(*args, **kwargs)
        return p

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        """Members come first: a broker that goes away in a callback of theirs is noticed by Celery's loop, not by them."""

        def call(*args: Any) -> None:
            with suppress(*self.connection_errors, *self.channel_errors):
                function(*args)

        return call

    @property
    def _can_read(self) -> bool:
        """Whether the broker is there, as far as the consumer knows."""
        return bool(self.connection and self.task_consumer)

    def _follow_queues(self) -> None:
        """Subscribes to the queues of runs that have begun, leaves those of runs that have ended."""
        if not self._can_read:
            return
        wanted = set(self.members.waiting.queues)
        known = {queue for queue in self.app.amqp.queues.consume_from if queue.startswith("te.run.")}
        for name in known - wanted:
            self._paused.discard(name)
            self.cancel_task_queue(name)
            self.app.amqp.queues.pop(name, None)
        for name in wanted - known:
            self.app.amqp.queues.add(Queue(name, Exchange(""), routing_key=name, durable=True))
            self.add_task_queue(name)
        if wanted - known:
            self._offer_room()

    def _offer_room(self) -> None:
        """Ends a wait for messages that leaves out queues whose members would find room now."""
        if not self._can_read:
            return
        channel, wanted = self.task_consumer.channel, self.members.wanted()
        if isinstance(channel, Channel):
            if wanted and channel.waits_for(wanted):
                line = self.members.line_to_broker
                if line is None:
                    channel.unblock()
                else:
                    channel.unblock_soon(line, self.members.on_room)
            return
        for name in self._paused & set(wanted):
            self._paused.discard(name)
            self.task_consumer.add_queue(self.app.amqp.queues[name])
            self.task_consumer.consume()

    def _give_back(self, name: str, requests: list[Any]) -> None:
        """RabbitMQ delivers unasked: what finds no slot goes back for others, and its queue is left until there is room."""
        if not self._can_read:
            return  # the broker delivers them again itself
        if name not in self._paused and self.task_consumer.consuming_from(name):
            self._paused.add(name)
            self.task_consumer.cancel_by_queue(name)
        for request in requests:
            request.reject(requeue=True)
