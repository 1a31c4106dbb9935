"""Messages that a worker publishes itself: the next attempt of a member, the completion of an entity."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor

from taskensemble.engine import messages, urls
from workers.link import Link

logger = logging.getLogger("taskensemble.worker")


class Outbox:
    """Publishes without waiting: over the link to the record store where that server is the broker too, else in a thread."""

    def __init__(self, broker_url: str, store_url: str, link: Link) -> None:
        self.on_the_link = urls.is_redis(broker_url) and urls.redis_url(broker_url) == urls.redis_url(store_url)
        """Whether the broker is the server of the records."""
        self._link = link
        self._publisher = messages.Publisher(broker_url)
        self._thread = ThreadPoolExecutor(1, "publish")

    def publish(self, queue: str, text: str) -> None:
        """Puts a message into a queue."""
        if self.on_the_link:
            self._link.command("LPUSH", queue, text)
        else:
            self._thread.submit(self._publisher.publish_raw, queue, [text]).add_done_callback(_log_failure)

    def close(self) -> None:
        """Waits until everything is published."""
        self._thread.shutdown(wait=True)
        self._publisher.close()


def _log_failure(future: Future[None]) -> None:
    error = future.exception()
    if error is not None:
        logger.error("A message could not be published, the reaper will: %s", error)
