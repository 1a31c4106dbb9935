"""What happens when the driver ends.

A driver that ends normally while members of its own control plane run says so and waits for them: they would end with it. So
does one whose worker runs them in its allocation, beside a kept control plane. One that ends by an exception stops those of its
own control plane. Then its databases, worker and control plane end, in this order. A driver that is killed runs none of this:
the guards that tie its processes to it end them.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING

from taskensemble.errors import TaskensembleError
from taskensemble.progress import LineProgress

if TYPE_CHECKING:
    from taskensemble.experiment import Experiment

_watched: list[Experiment] = []
_process = 0


def watch(experiment: Experiment) -> None:
    """Look after an experiment when this process ends."""
    global _process
    if _process != os.getpid():
        # A forked child inherits neither the experiments nor the duty.
        _watched.clear()
        _process = os.getpid()
        atexit.register(_end)
    if experiment not in _watched:
        _watched.append(experiment)


def _end() -> None:
    if os.getpid() != _process:
        return
    failed = getattr(sys, "last_exc", None) is not None or getattr(sys, "last_value", None) is not None
    for experiment in _watched:
        try:
            _finish(experiment, failed)
        except KeyboardInterrupt:
            print("taskensemble: interrupted: stopping what runs.", file=sys.stderr, flush=True)
            experiment.stop_all()
        except (TaskensembleError, TimeoutError) as error:
            print(f"taskensemble: {error}", file=sys.stderr, flush=True)
        finally:
            experiment.close()
    _watched.clear()


def _finish(experiment: Experiment, failed: bool) -> None:
    own = experiment.ends_with_driver
    if not own and (failed or not experiment.has_worker):
        return
    if failed:
        experiment.stop_all()
        return
    for handle in experiment.active_runs():
        if not (own or handle.record.needs_allocation):
            continue
        status = handle.status()
        print(
            f"taskensemble: the driver has ended; waiting for the run {handle.run_id} "
            f"({status.running} members run, {status.queued} wait). Ctrl-C stops them.",
            file=sys.stderr,
            flush=True,
        )
        handle.wait(progress=LineProgress(sys.stderr))
    if own:
        experiment.stop_all()
