"""The demo's picture: every member's field, what the surrogate made of it, how wrong it was, and who ran where and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskensemble.demo.plate import AMBIENT

INK, FAINT, PAPER = "#22252b", "#8a909c", "#fbfaf7"
HEAT, ERROR, ACCENT = "inferno", "BuPu", "#e4572e"
ISOTHERMS = (30, 45, 60, 75, 90)
"""Levels of the white lines, degrees Celsius: none is a heater's, where noise would draw scribbles."""


@dataclass(frozen=True)
class Outcome:
    """What the picture shows of one member."""

    name: str
    temperature: float
    diffusivity: float
    final: NDArray[np.float64]
    """Its own field at the end, degrees Celsius."""
    predicted: NDArray[np.float64]
    """The surrogate's, on fewer cells."""
    error: float
    """Root mean square difference of the two, kelvin."""
    slot: int
    """Row on the time line."""
    started: float
    ended: float
    """Seconds on one clock."""


def draw(
    outcomes: Sequence[Outcome],
    target: Path,
    trained: tuple[tuple[float, float], tuple[float, float]],
    materials: dict[float, str],
) -> Path:
    """Draw the picture into a PNG file.

    Parameters:
        outcomes: one for each pair of a temperature and a diffusivity.
        target: the file.
        trained: the ranges (low, high) of temperature and diffusivity that the surrogate was trained on.
        materials: what to call a diffusivity.

    Returns:
        The file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
    }
    temperatures, diffusivities = _axes_of(outcomes)
    rows = len({o.slot for o in outcomes})
    below = 1.15 + 0.62 * rows
    with pyplot.rc_context(style):
        page = _Page(pyplot, len(temperatures), len(diffusivities), below)
        _fields(page, 0, "Simulated by the members", outcomes, what="final", materials=materials)
        image = _fields(
            page, 1, "Predicted by the surrogate, in the database", outcomes, what="predicted", materials=materials
        )
        bar = page.figure.colorbar(image, cax=page.axes(page.bar, page.bottom, 0.17, page.height))
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        bar.ax.set_title("°C", loc="left", fontsize=10, fontweight="normal")
        _errors(page, outcomes, trained)
        _time_line(page, outcomes, below)
        page.figure.savefig(target, dpi=110)
        pyplot.close(page.figure)
    return target


class _Page:
    """Where everything stands, in inches: two blocks of squares, a colour bar and the table of errors side by side, so that
    one row is one material in all three; the time line below."""

    square, gap, left, top = 1.34, 0.1, 1.15, 0.95

    def __init__(self, pyplot: Any, columns: int, rows: int, below: float) -> None:
        self.columns, self.rows = columns, rows
        self.block = columns * self.square + (columns - 1) * self.gap
        self.height = rows * self.square + (rows - 1) * self.gap
        self.bottom = below + 0.75
        self.bar = self.left + 2 * self.block + 0.55
        self.table = self.bar + 0.95
        self.cell = 0.92
        self.width = self.table + columns * self.cell + 0.25
        self.figure = pyplot.figure(figsize=(self.width, self.bottom + self.height + self.top))

    def axes(self, left: float, bottom: float, width: float, height: float) -> Any:
        across, up = self.figure.get_size_inches()
        return self.figure.add_axes((left / across, bottom / up, width / across, height / up))

    def heading(self, left: float, text: str) -> None:
        across, up = self.figure.get_size_inches()
        self.figure.text(left / across, 1 - 0.3 / up, text, fontweight="bold", fontsize=13, va="center")


def _axes_of(outcomes: Sequence[Outcome]) -> tuple[list[float], list[float]]:
    """The temperatures, rising, and the diffusivities, rising."""
    return sorted({o.temperature for o in outcomes}), sorted({o.diffusivity for o in outcomes})


def _label(diffusivity: float, materials: dict[float, str]) -> str:
    material = materials.get(diffusivity)
    return f"{material}\n{diffusivity:g} mm²/s" if material else f"{diffusivity:g} mm²/s"


def _fields(
    page: _Page, block: int, title: str, outcomes: Sequence[Outcome], *, what: str, materials: dict[float, str]
) -> Any:
    temperatures, diffusivities = _axes_of(outcomes)
    left = page.left + block * (page.block + 0.35)
    page.heading(left, title)
    image = None
    for outcome in outcomes:
        row, column = diffusivities.index(outcome.diffusivity), temperatures.index(outcome.temperature)
        step = page.square + page.gap
        up = page.bottom + page.height - page.square - row * step
        axes, field = page.axes(left + column * step, up, page.square, page.square), getattr(outcome, what)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        extent = (0, 1, 0, 1)
        image = axes.imshow(field, origin="lower", extent=extent, cmap=HEAT, vmin=AMBIENT, vmax=temperatures[-1])
        axes.contour(field, levels=ISOTHERMS, extent=extent, colors="white", linewidths=0.6, alpha=0.6)
        if row == 0:
            axes.set_title(f"{outcome.temperature:g} °C", loc="center", fontsize=10, fontweight="normal")
        if column == 0 and block == 0:
            axes.set_ylabel(
                _label(outcome.diffusivity, materials),
                rotation=0,
                ha="right",
                va="center",
                fontsize=10,
                linespacing=1.5,
            )
    return image


def _errors(page: _Page, outcomes: Sequence[Outcome], trained: tuple[tuple[float, float], tuple[float, float]]) -> None:
    from matplotlib.patches import Rectangle

    temperatures, diffusivities = _axes_of(outcomes)
    errors = np.full((len(diffusivities), len(temperatures)), np.nan)
    for outcome in outcomes:
        errors[diffusivities.index(outcome.diffusivity), temperatures.index(outcome.temperature)] = outcome.error
    page.heading(page.table, "Error of the prediction")
    axes = page.axes(page.table, page.bottom, page.columns * page.cell, page.height)
    shown = axes.imshow(errors, cmap=ERROR, vmin=0, vmax=1.15 * np.nanmax(errors), aspect="auto")
    for (row, column), error in np.ndenumerate(errors):
        if np.isfinite(error):
            ink = "white" if shown.norm(error) > 0.5 else INK
            axes.text(column, row, f"{error:.2f} K", ha="center", va="center", color=ink, fontsize=11)
    axes.set_xticks(range(len(temperatures)), [f"{t:g} °C" for t in temperatures])
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for column in range(1, page.columns):
        axes.axvline(column - 0.5, color=PAPER, linewidth=3)
    for row in range(1, page.rows):
        axes.axhline(row - 0.5, color=PAPER, linewidth=3)
    caption = "root mean square, against the member's own field"
    (cold, hot), (slow, fast) = trained
    columns = [i for i, t in enumerate(temperatures) if cold <= t <= hot]
    rows = [i for i, d in enumerate(diffusivities) if slow <= d <= fast]
    if columns and rows:
        corner = (columns[0] - 0.5, rows[0] - 0.5)
        frame = Rectangle(corner, len(columns), len(rows), fill=False, edgecolor=ACCENT, linewidth=2.5, zorder=3)
        frame.set_clip_on(False)
        axes.add_patch(frame)
        caption += "\nframed: inside the range it was trained on"
    axes.set_xlabel(caption, fontsize=9, labelpad=7, linespacing=1.5, loc="left")


def _time_line(page: _Page, outcomes: Sequence[Outcome], height: float) -> None:
    from matplotlib import colormaps

    origin = min(o.started for o in outcomes)
    temperatures, _ = _axes_of(outcomes)
    rows = sorted({o.slot for o in outcomes})
    axes = page.axes(page.left, 0.65, page.width - page.left - 0.25, height - 1.0)
    axes.set_title("Members on slots", fontsize=13, pad=8)
    span = max(max(temperatures) - min(temperatures), 1.0)
    for outcome in outcomes:
        share = 0.3 + 0.55 * (outcome.temperature - min(temperatures)) / span
        colour = colormaps[HEAT](share)
        begin, length = outcome.started - origin, outcome.ended - outcome.started
        row = rows.index(outcome.slot)
        axes.barh(row, length, left=begin, height=0.78, color=colour, edgecolor=PAPER, linewidth=1.5)
        ink = INK if share > 0.68 else "white"
        text = f"{outcome.name}\n{outcome.temperature:g} °C, {outcome.diffusivity:g} mm²/s"
        axes.text(begin + length / 2, row, text, ha="center", va="center", fontsize=7.5, color=ink, clip_on=True)
    axes.set_yticks(range(len(rows)), [f"slot {row}" for row in rows])
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.set_xlim(0, max(o.ended for o in outcomes) - origin)
    axes.set_xlabel("seconds since the first member began")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
