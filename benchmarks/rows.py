"""What a benchmark prints: rows of a figure, its reach, and whether it was reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: in words.
        value: in `unit`.
        reach: the bound it is meant to keep; None: a figure without one.
        least: the bound is the least, not the most.
        beside: what stands beside it: a peer's figure, the rounds.
    """

    what: str
    value: float
    unit: str = ""
    reach: float | None = None
    least: bool = False
    beside: str = ""

    @property
    def figure(self) -> str:
        """The value as people read it, with its unit."""
        return f"{_digits(self.value)} {self.unit}".strip()

    @property
    def bound(self) -> str:
        """The reach as people read it."""
        return "" if self.reach is None else f"{'≥' if self.least else '≤'} {_digits(self.reach)} {self.unit}".strip()

    @property
    def verdict(self) -> str:
        """`hit` or `miss`; nothing where there is no reach."""
        if self.reach is None:
            return ""
        return "hit" if (self.value >= self.reach if self.least else self.value <= self.reach) else "miss"


def _digits(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def text(rows: Iterable[Row]) -> str:
    """Rows for a terminal."""
    cells = [(row.what, row.figure, row.bound, row.verdict, row.beside) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    return "\n".join(
        f"{what:<{widths[0]}}  {figure:>{widths[1]}}  {bound:<{widths[2]}}  {verdict:<{widths[3]}}  {beside}".rstrip()
        for what, figure, bound, verdict, beside in cells
    )


def markdown(rows: Iterable[Row]) -> str:
    """Rows for docs/performance.md."""
    lines = ["| what | figure | reach | | beside |", "|---|---|---|---|---|"]
    lines += [f"| {row.what} | {row.figure} | {row.bound} | {row.verdict} | {row.beside} |" for row in rows]
    return "\n".join(lines)
