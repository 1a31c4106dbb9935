"""How a wait shows itself: a live bar by state on a terminal or in Jupyter, plain lines elsewhere, nothing when quiet.

Nothing here runs in a thread: whoever waits calls `update` as often as it learns something.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.text import Text

    from taskensemble.engine.records import RunStatus

REFRESH = 0.1
"""Seconds between two pictures of a live bar."""
LINES = 10.0
"""Seconds between two plain lines."""
WIDTH = 32
RECENT, LATEST = 30.0, 20
"""Members a second are counted over so many seconds, or over so many looks at which some had ended, whichever is longer."""


class Progress(Protocol):
    """What a wait tells about a run."""

    def update(self, status: RunStatus) -> None:
        """The run stands at `status`."""

    def note(self, text: str) -> None:
        """Something worth a line of its own, a failed member for one."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress(quiet: bool = False, stream: TextIO | None = None, interval: float = LINES) -> Progress:
    """The progress that fits where the output goes (standard error, if `stream` is not given).

    `interval`: seconds between two plain lines, when a tenth of the members has not ended meanwhile.
    """
    target = sys.stderr if stream is None else stream
    if quiet:
        return Quiet()
    if _in_jupyter():
        return JupyterProgress()
    if target.isatty():
        return TerminalProgress(target)
    return LineProgress(target, interval)


class Quiet:
    """Says nothing."""

    def update(self, status: RunStatus) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Pace:
    """Members that end a second: of what ended while somebody looked, and lately.

    A run that is found again has members that ended long ago, and one that begins waits for its worker: neither tells its pace.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def rate(self, status: RunStatus, now: float) -> float | None:
        """The rate when the run stands at `status`, `now` being seconds of any clock; None while nothing can be said."""
        ended = _ended(status)
        if not ended and not status.running:
            self._seen.clear()
        if not self._seen or self._seen[-1][1] != ended:
            self._seen.append((now, ended))
        # Where members last long, half a minute sees none of them end.
        while len(self._seen) > LATEST and now - self._seen[0][0] > RECENT:
            self._seen.popleft()
        then, before = self._seen[0]
        return (ended - before) / (now - then) if ended > before and now > then else None


class LineProgress(Quiet):
    """Plain lines: one for each tenth of the members, each note, and the end."""

    def __init__(self, stream: TextIO, interval: float = LINES) -> None:
        self._stream = stream
        self._interval = interval
        self._pace = Pace()
        self._last = float("-inf")
        self._tenth = -1
        self._final = False

    def update(self, status: RunStatus) -> None:
        tenth = 10 * _ended(status) // max(status.size, 1)
        now = time.monotonic()
        rate = self._pace.rate(status, now)
        if self._final or not (status.state.final or tenth > self._tenth or now - self._last >= self._interval):
            return
        self._final = status.state.final
        self._tenth, self._last = tenth, now
        self.note(f"{status.run_id}: {sentence(status, rate)}")

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class BarProgress(Quiet):
    """A live bar, drawn anew as often as an eye can follow."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._drawn = 0.0

    def update(self, status: RunStatus) -> None:
        now = time.monotonic()
        rate = self._pace.rate(status, now)
        if now - self._drawn >= REFRESH or status.state.final:
            self._drawn = now
            self.draw(status, rate)

    def draw(self, status: RunStatus, rate: float | None) -> None:
        """Puts the bar in the place of the last one."""
        raise NotImplementedError


class TerminalProgress(BarProgress):
    """A bar through rich."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self._console = Console(file=stream)
        self._live = Live(console=self._console, auto_refresh=False)

    def draw(self, status: RunStatus, rate: float | None) -> None:
        self._live.update(bar(status, rate, self._console.width), refresh=True)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def __enter__(self) -> TerminalProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


class JupyterProgress(BarProgress):
    """A line in the cell's output that is rewritten in place; it needs no widget extension."""

    def __init__(self) -> None:
        from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

        super().__init__()
        self._show: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def draw(self, status: RunStatus, rate: float | None) -> None:
        self._show.update({"text/plain": bar(status, rate).plain}, raw=True)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def bar(status: RunStatus, rate: float | None, columns: int | None = None) -> Text:
    """One line: the members by state as a bar, then in numbers, the rate and the time left.

    Arguments:
        rate: members that end a second, if that is known.
        columns: of the terminal; where they are few the bar is shorter, so that the numbers stay on its line.
    """
    from rich.text import Text

    told = f" {sentence(status, rate)}"
    text = Text(f"{status.run_id} ", no_wrap=True, overflow="ellipsis")
    width = WIDTH if columns is None else max(0, min(WIDTH, columns - len(text) - len(told) - 1))
    parts = [
        (status.completed, "green", "━"),
        (status.failed, "red", "━"),
        (status.cancelled, "yellow", "━"),
        (status.running, "cyan", "╸"),
    ]
    drawn = 0
    counted = 0
    for count, colour, mark in parts:
        counted += count
        upto = round(width * counted / max(status.size, 1))
        text.append(mark * (upto - drawn), style=colour)
        drawn = max(drawn, upto)
    text.append("─" * (width - drawn), style="bright_black")
    text.append(told)
    return text


def sentence(status: RunStatus, rate: float | None) -> str:
    """The numbers of a run in words: `12/20 ended, 1 failed, 4 running, 3.1/s, 3 s left`."""
    ended = _ended(status)
    words = [f"{ended}/{status.size} ended"]
    words += [
        f"{count} {word}"
        for count, word in ((status.failed, "failed"), (status.cancelled, "cancelled"), (status.running, "running"))
        if count
    ]
    if status.state.final:
        if not (status.failed and status.state == "Failed"):
            words.append(str(status.state).lower())
        if status.started is not None and status.ended is not None:
            words.append(f"took {duration(status.ended - status.started)}")
    elif rate:
        words.append(f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min")
        words.append(f"{duration((status.size - ended) / rate)} left")
    return ", ".join(words)


def _ended(status: RunStatus) -> int:
    return status.completed + status.failed + status.cancelled


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3:05`, `2:03:05`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _in_jupyter() -> bool:
    shell = sys.modules.get("IPython")
    if shell is None:
        return False
    running = shell.get_ipython()
    return running is not None and type(running).__name__ == "ZMQInteractiveShell"
