"""The Celery pool of the workers: members become processes, other tasks run in a few threads.

A member never passes through Celery's tracer: its request goes to `Members`, which calls the request's own `on_accepted`,
`on_success`, `on_failure` when the time comes. Setup and completion are Python and run in threads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.base import BasePool
from celery.worker import state

from taskensemble.engine import messages, signing
from taskensemble.errors import InputError, TaskensembleError
from workers.lifetime import Lifetime
from workers.members import Members

logger = logging.getLogger("taskensemble.worker")


class MemberPool(BasePool):  # type: ignore[misc]
    """One worker's pool."""

    task_join_will_block = False
    signal_safe = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.members: Members = self.app.members
        self.drain_limit: float = self.app.drain_limit
        self.lifetime: Lifetime = self.app.lifetime
        self._threads = ThreadPoolExecutor(4, "service")
        self._hub: Any = None
        self._watched: set[int] = set()
        self._busy = 0

    def register_with_event_loop(self, loop: Any) -> None:
        """Joins the worker's event loop; called anew after each connection to the broker."""
        self._hub = loop
        self._watched.clear()
        self.members.wake = self._wake
        self.members.wake_later = lambda seconds: loop.call_later(seconds, lambda: None)
        self._watch()
        loop.on_tick.add(self._on_tick)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        callback: Callable[[Any], None],
        accept_callback: Any,
        error_callback: Callable[[Any], None] | None = None,
        **_: Any,
    ) -> None:
        """Takes a task from the consumer."""
        request = accept_callback.__self__
        try:
            _check_body(args[0], request)
            _check_signature(args[0], request)
        except TaskensembleError as error:
            # What belongs to a run and is lost by this is published again by the reaper.
            logger.error("Message %s (%s) is refused: %s", request.id, args[0], error)
            request.reject(requeue=False)
            return
        if args[0] == messages.MEMBER:
            self.members.waiting.add(request, request.delivery_info["routing_key"])
            return
        accept_callback(os.getpid(), monotonic())
        self._busy += 1
        future = self._threads.submit(target, *args, **(kwargs or {}))
        future.add_done_callback(
            lambda done: self._call_soon(partial(self._on_service_end, done, callback, error_callback))
        )

    def on_stop(self) -> None:
        """Warm shutdown: what runs may end."""
        self._threads.shutdown(wait=True)
        self.members.drain(self.drain_limit)

    def on_terminate(self) -> None:
        """Cold shutdown: what runs goes back to the queue."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.members.drain(0.0)

    def _on_service_end(self, done: Any, callback: Callable[[Any], None], error_callback: Any) -> None:
        self._busy -= 1
        try:
            result = done.result()
        except Exception:
            logger.exception("A task of the worker itself failed")
            if error_callback is not None:
                error_callback(ExceptionInfo())
            return
        callback(result)

    def _on_tick(self) -> None:
        why = self.lifetime.over(busy=bool(self._busy or self.members.busy), now=monotonic())
        if why and state.should_stop is None:
            logger.warning("This worker ends: %s", why)
            state.should_stop = 0
        if self.members.tick():
            self._watch()

    def _watch(self) -> None:
        """Puts the guard's and the store's descriptors into the event loop, and takes old ones out."""
        wanted = set(self.members.descriptors())
        for descriptor in self._watched - wanted:
            self._hub.remove(descriptor)
        for descriptor in wanted:
            self._hub.add_reader(descriptor, self._on_readable, descriptor)
        self._watched = wanted

    def _on_readable(self, descriptor: int) -> None:
        members = self.members
        if descriptor == members.guard.fileno():
            if not members.on_guard():
                self._watch()
        else:
            members.on_store(descriptor)

    def _wake(self) -> None:
        self._call_soon(lambda: None)

    def _call_soon(self, callback: Callable[[], None]) -> None:
        if self._hub is not None:
            self._hub.call_soon(callback)


_ARGUMENTS: dict[str, tuple[type, ...]] = {
    messages.SETUP: (str,),
    messages.COMPLETION: (str, int),
    messages.MEMBER: (str, int, int),
}


def _check_body(task: str, request: Any) -> None:
    """Checks the arguments of a task's message: a worker must not stumble over what somebody else wrote.

    Raises:
        InputError: they are not those of the task.
    """
    wanted = _ARGUMENTS.get(task)
    try:
        given = request.args
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"its body is none of a task: {error}; give [arguments, keywords, embed]") from error
    if wanted is None or (len(given) == len(wanted) and all(map(isinstance, given, wanted))):
        return
    words = ", ".join({str: "run", int: "number"}[kind] for kind in wanted)
    raise InputError(f"its arguments are {str(given)[:200]}; give [{words}]")


def _check_signature(task: str, request: Any) -> None:
    """Checks that a task's message is signed, where this worker has keys.

    Raises:
        SignatureError: it is not, or was changed.
        InputError: the file of keys cannot be used.
    """
    keys = signing.from_environment()
    if keys is not None:
        body = request.body.encode() if isinstance(request.body, str) else bytes(request.body)
        run_id = str(request.args[0]) if request.args else ""
        keys.verify(request.request_dict.get(signing.HEADER), task, run_id, body)
