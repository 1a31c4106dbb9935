"""Ctrl-C after a start: what was started is stopped first, and then the driver has its KeyboardInterrupt, wherever it is.

That is SmartSim's rule. A driver with a handler of its own for SIGINT is left alone with it.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING
from weakref import WeakSet

from taskensemble.smartsim._core.utils.helpers import SignalInterceptionStack

if TYPE_CHECKING:
    from taskensemble.smartsim.experiment import Experiment

LIMIT = 60.0
"""Seconds that Ctrl-C waits for the stop: more than a grace period. There is a limit because the signal may have come while the
main thread held a lock that the stop needs."""

_watched: WeakSet[Experiment] = WeakSet()
_stopping = False


def watch(experiment: Experiment) -> None:
    """Let Ctrl-C stop what an experiment runs, or tell of it where the driver wants it to go on."""
    if threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler or isinstance(handler, SignalInterceptionStack):
        SignalInterceptionStack.get(signal.SIGINT).push_unique(_interrupt)
        _watched.add(experiment)


def _interrupt(_signalnum: int, _frame: FrameType | None) -> None:
    """Stop them, side by side; a second Ctrl-C meanwhile does not wait any more."""
    global _stopping
    if _stopping:
        return
    _stopping = True
    try:
        threads = [threading.Thread(target=experiment.interrupted, daemon=True) for experiment in list(_watched)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    finally:
        _stopping = False
