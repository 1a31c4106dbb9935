"""Ends that may not be the programs' own: a scheduler ends all processes of a job, a service manager those of a service, and the
programs may be quicker to end than their worker to be told."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from taskensemble.engine.allocation import AllocationRecord
from taskensemble.guard import Ended
from workers import ends
from workers.allocation import cancel_steps, job_is_ending
from workers.process import Attempt

_TOLD_WITHIN = 1.0
"""Seconds within which a worker is told to end when all processes of its job or service are."""
_ANSWERS_WITHIN = 60.0
"""Seconds within which a scheduler that is away is asked again whether it ends a job; one that is away for longer ends none."""


class Doubts:
    """The doubtful ends of one worker's attempts.

    Arguments:
        allocation: what the worker gives to members, where that is a scheduler's job.
        threads: where a scheduler is asked.
        hand: has something done on the event loop, from a thread.
        told_to_end: whether the worker is to end.
        on_end: called on the event loop when it is known what an end was; `Attempt.job_ended` says so if not the program's own.
    """

    def __init__(
        self,
        allocation: AllocationRecord | None,
        threads: ThreadPoolExecutor,
        *,
        hand: Callable[[Callable[[], None]], None],
        told_to_end: Callable[[], bool],
        on_end: Callable[[Attempt, Ended], None],
    ) -> None:
        self._allocation = allocation
        self._threads = threads
        self._hand = hand
        self._told_to_end = told_to_end
        self._on_end = on_end
        self._until: deque[tuple[float, Attempt, Ended]] = deque()

    def concern(self, report: Ended) -> bool:
        """Whether this may be the end of its job, or of this worker's service, rather than the program's own."""
        return bool(report.returncode) if self._allocation is not None else ends.may_be_told(report)

    def look_into(self, attempt: Attempt, report: Ended) -> float:
        """Finds out, and calls `on_end` then.

        Returns:
            float: seconds after which the event loop should call `tick`
        """
        if self._allocation is not None and self._allocation.scheduler == "slurm":
            self._threads.submit(self._ask_slurm, self._allocation, attempt, report)
        else:
            self._until.append((time.monotonic() + _TOLD_WITHIN, attempt, report))
        return _TOLD_WITHIN

    def tick(self, now: float) -> None:
        """Ends that waited long enough: they are not the programs' own if this worker is told to end at the same time."""
        while self._until and (self._told_to_end() or self._until[0][0] <= now):
            _, attempt, report = self._until.popleft()
            self._judge(attempt, report)

    def _ask_slurm(self, allocation: AllocationRecord, attempt: Attempt, report: Ended) -> None:
        """What an end in an allocation hides: the job itself is ending, or the program goes on where its launcher was killed."""
        if report.returncode == -signal.SIGKILL:
            cancel_steps(attempt.token, os.environ)
        deadline = time.monotonic() + _ANSWERS_WITHIN
        while not attempt.cancelled:
            ending = job_is_ending(allocation.job_id, os.environ)
            if ending:
                attempt.job_ended = f"its job {allocation.job_id} ended"
            if ending is not None or self._told_to_end() or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        judged = self._judge if ends.may_be_told(report) else self._on_end
        self._hand(partial(judged, attempt, report))

    def _judge(self, attempt: Attempt, report: Ended) -> None:
        if self._told_to_end() and not attempt.cancelled:
            attempt.job_ended = attempt.job_ended or "its worker was told to end, and it with it"
        self._on_end(attempt, report)
