"""Kombu's Redis transport, with fetching that follows the slots.

What differs from kombu's own:
  * several messages a round trip (BLMPOP), and never more than the worker has room for;
  * only queues whose members would fit now are asked; `unblock` ends a wait when that changes;
  * no copy of delivered messages in the broker: a member's claim in the record store replaces it, and the reaper publishes
    again what was fetched but never claimed. Messages that a stopping worker still holds go back to their queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps
from pydantic_core import from_json

logger = logging.getLogger("taskensemble.worker")

Plan = Callable[[list[str]], tuple[list[str], int]]


class QoS(virtual.QoS):  # type: ignore[misc]
    """Delivered messages of a channel; how many there may be is the plan's matter."""

    def can_consume(self) -> bool:
        return True


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """A channel that asks `plan` which of its queues to read and how many messages to take."""

    ack_emulation = False
    plan: Plan = staticmethod(lambda queues: (queues, 1))
    _asked: frozenset[str] = frozenset()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = QoS
        self._client_id = 0
        self._unblocked = False
        self._known_socket: Any = None
        self._commands: Any = None
        self.heard: dict[str, int] = {}
        """How many subscribers the last message of a topic reached."""

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """A client for commands: kombu makes one for each, which costs more than the command."""
        if client is None:
            if self._commands is None or self._commands.connection_pool is not self.pool:
                self._commands = self._create_client()
            client = self._commands
        yield client

    def _put_fanout(self, exchange: str, message: dict[str, Any], routing_key: str, **kwargs: Any) -> None:
        if kwargs.get("_publish_batch") is not None:
            super()._put_fanout(exchange, message, routing_key, **kwargs)
            return
        with self.conn_or_acquire() as client:
            for topic in self._get_publish_topics(exchange, routing_key):
                self.heard[topic] = client.publish(topic, dumps(message))

    def unheard(self, exchange: str, routing_key: str) -> str:
        """The topic of such messages, if the last one reached nobody; else empty."""
        topic = str(self._get_publish_topic(exchange, routing_key))
        return "" if self.heard.get(topic, 1) else topic

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues, count = Channel.plan(self.active_queues)
        if not queues:
            return
        connection = self.client.connection
        self._learn_id(connection)
        self._asked = frozenset(queues)
        self._in_poll = connection
        self._unblocked = False
        self._brpop_sent_at = monotonic()
        wait = self.brpop_timeout if timeout is None else timeout
        connection.send_command("BLMPOP", wait or 0, len(queues), *queues, "RIGHT", "COUNT", max(1, count))

    def _brpop_read(self, **options: Any) -> bool:
        try:
            try:
                answer = self.client.parse_response(self.client.connection, "BLMPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not answer:
                raise Empty
            queue = bytes_to_str(answer[0])
            for item in answer[1]:
                try:
                    message = from_json(item)
                    self._check_envelope(message)
                except (ValueError, RecursionError) as error:
                    logger.error("What stands in %s is no message and is dropped: %s", queue, error)
                    continue
                self.connection._deliver(message, queue)
            return True
        finally:
            self._in_poll = None

    @staticmethod
    def _check_envelope(message: Any) -> None:
        """What kombu reads of a message before anybody looks at its headers.

        Raises:
            ValueError: it is not there.
        """
        properties = message.get("properties") if isinstance(message, dict) else None
        if not isinstance(properties, dict) or not {"delivery_tag", "delivery_info"} <= set(properties):
            raise ValueError("it has no properties with delivery_tag and delivery_info")
        if not isinstance(properties["delivery_info"], dict) or not isinstance(message.get("headers", {}), dict):
            raise ValueError("its headers and delivery_info must be objects")

    def close(self) -> None:
        """Closes the channel; a wait that is under way is ended first, and what it had fetched goes back to its queue."""
        with suppress(*self.connection_errors):
            self.unblock()
        super().close()

    @property
    def is_settled(self) -> bool:
        """Whether it waits for all that it is to wait for, so that a turn of the event loop has nothing to do here."""
        listening = len(self.active_fanout_queues)
        polling = len(self._active_queues) - listening
        return (not polling or _is_open(self._in_poll)) and (not listening or _is_open(self._in_listen))

    def waits_for(self, queues: list[str]) -> bool:
        """Whether a wait is under way that leaves some of these queues out."""
        return bool(self._in_poll) and not self._asked.issuperset(queues)

    def unblock(self) -> None:
        """Ends the wait that is under way, so that the next one follows the plan anew."""
        if self._in_poll and self._client_id and not self._unblocked:
            with self.conn_or_acquire() as client:
                # Members that end together ask for it together. 0: the server has not seen the wait yet, so ask again.
                self._unblocked = bool(client.execute_command("CLIENT", "UNBLOCK", self._client_id))

    def unblock_soon(self, command: Callable[..., None], again: Callable[[], None]) -> None:
        """As `unblock`, over a line that does not wait for answers.

        Arguments:
            command: sends a command there, and gives its answer to `callback`.
            again: called when the server had not seen the wait, or had ended it: look whether there still is one.
        """
        if not self._in_poll or not self._client_id or self._unblocked:
            return
        self._unblocked, asked = True, self._brpop_sent_at

        def answered(answer: Any) -> None:
            if answer != 1 and self._in_poll and self._brpop_sent_at == asked:
                self._unblocked = False
                again()

        command("CLIENT", "UNBLOCK", self._client_id, callback=answered)

    def _learn_id(self, connection: Any) -> None:
        """The server's number of a connection, asked before it first waits: while it waits it cannot be asked."""
        if connection._sock is not self._known_socket:
            connection.send_command("CLIENT", "ID")
            self._client_id = int(connection.read_response())
            self._known_socket = connection._sock


def _is_open(connection: Any) -> bool:
    return bool(connection) and connection._sock is not None


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """The transport for `redis://` in a worker."""

    Channel = Channel
    brpop_timeout = 5

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Joins the event loop. Kombu asks the kernel to watch each socket anew in each of its turns; once is enough."""
        others = set(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        loop.on_tick.intersection_update(others)
        cycle, on_readable = self.cycle, self.on_readable

        def on_tick() -> None:
            if all(channel.is_settled for channel in cycle._channels):
                return
            cycle.on_poll_start()
            for fd in cycle.fds:
                if loop.readers.get(fd) != (on_readable, (fd,)):
                    loop.add_reader(fd, on_readable, fd)

        loop.on_tick.add(on_tick)


def install() -> None:
    """Makes this the transport of Redis brokers in this process."""
    from kombu.transport import TRANSPORT_ALIASES

    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = "workers.transport:Transport"
