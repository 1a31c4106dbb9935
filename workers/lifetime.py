"""How long a worker lives: until it is told to end, until it has had nothing to do for some time, or for a stated time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Lifetime:
    """When a worker ends by itself.

    Attributes:
        idle_timeout: seconds without work; 0: that never ends it.
        time_limit: seconds since its start; 0: no limit.
    """

    idle_timeout: float = 0.0
    time_limit: float = 0.0
    _begun: float = field(default_factory=time.monotonic)
    _busy_at: float | None = None
    """None until it is connected and could have had work."""

    def over(self, *, busy: bool, now: float) -> str:
        """Why it ends now; empty: it does not.

        Parameters:
            now: monotonic time.
        """
        if busy or self._busy_at is None:
            self._busy_at = now
        if 0 < self.time_limit <= now - self._begun:
            return f"its --time-limit of {self.time_limit:g} s is over"
        if 0 < self.idle_timeout <= now - self._busy_at:
            return f"it has had nothing to do for {self.idle_timeout:g} s (--idle-timeout)"
        return ""
