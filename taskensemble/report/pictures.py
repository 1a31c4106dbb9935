"""The pictures of a report: members on slots, slots in use, durations by parameter, results by parameter."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from taskensemble.errors import UnsupportedError
from taskensemble.report.facts import Facts

INK, FAINT, PAPER = "#22252b", "#8a909c", "#fbfaf7"
COLOURS = {
    "Completed": "#3a7d6b",
    "Failed": "#d1495b",
    "Cancelled": "#b8b4a8",
    "Running": "#e9a03b",
    "Queued": "#8a909c",
}
ROWS = 64
"""Lines that the time line shows."""
CROWDED = 500
"""Members from which on there are more than the pixels of a picture tell apart: gaps and steps are left out, means are shown."""

Picture = bytes
"""A PNG file."""


def draw(facts: Facts) -> dict[str, Picture]:
    """Draw what there is to see of a run: nothing for a run without a member that has started.

    Returns:
        dict: name -> PNG file

    Raises:
        UnsupportedError: matplotlib is not installed
    """
    try:
        import matplotlib
    except ImportError:
        raise UnsupportedError("A report needs matplotlib: pip install 'taskensemble[plots]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    ran = [row for row in facts.members if row["started"] is not None]
    if not ran:
        return {}
    style = {
        "font.family": "DejaVu Sans",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
        "figure.constrained_layout.use": True,
    }
    pictures: dict[str, Picture] = {}
    with pyplot.rc_context(style):
        for name, picture in _pictures(ran).items():
            figure = picture(pyplot)
            if figure is None:
                continue
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=110)
            pyplot.close(figure)
            pictures[name] = file.getvalue()
    return pictures


def _pictures(ran: list[dict[str, Any]]) -> dict[str, Callable[[Any], Any]]:
    now = max(row["ended"] or row["started"] for row in ran)
    return {
        "timeline": lambda pyplot: _time_line(pyplot, ran, now),
        "slots": lambda pyplot: _slots_in_use(pyplot, ran, now),
        "durations": lambda pyplot: _by_parameter(pyplot, ran, {"seconds": lambda row: row["seconds"]}),
        "results": lambda pyplot: _by_parameter(pyplot, ran, _numbers(ran)),
    }


def lanes(ran: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """A node and a line there for each row: what ran at the same time is on different lines, as many as slots were busy."""
    free: dict[str, list[float]] = {}
    placed: list[tuple[str, int]] = [("", 0)] * len(ran)
    for index in sorted(range(len(ran)), key=lambda index: ran[index]["started"]):
        row = ran[index]
        lines = free.setdefault(row["node"], [])
        line = next((line for line, until in enumerate(lines) if until <= row["started"]), len(lines))
        lines[line : line + 1] = [row["ended"] if row["ended"] is not None else float("inf")]
        placed[index] = (row["node"], line)
    return placed


def busy(ran: Sequence[dict[str, Any]]) -> list[tuple[float, int]]:
    """When the number of running members changed, and to what."""
    changes = sorted(
        [(row["started"], 1) for row in ran] + [(row["ended"], -1) for row in ran if row["ended"] is not None],
    )
    steps: list[tuple[float, int]] = []
    count = 0
    for time, change in changes:
        count += change
        steps.append((time, count))
    return steps


def mean_busy(ran: Sequence[dict[str, Any]], now: float, parts: int) -> tuple[list[float], list[float]]:
    """How many members ran on average in each of so many equal parts of the time: the beginnings (seconds), the means."""
    begin = min(row["started"] for row in ran)
    step = (now - begin) / parts or 1.0
    sums = [0.0] * (parts + 1)
    for row in ran:
        start, end = (row["started"] - begin) / step, ((row["ended"] or now) - begin) / step
        for part in range(int(start), min(parts, int(end)) + 1):
            sums[part] += max(0.0, min(part + 1, end) - max(part, start))
    return [part * step for part in range(parts + 1)], sums


def _time_line(pyplot: Any, ran: list[dict[str, Any]], now: float) -> Any:
    placed = lanes(ran)
    shown = sorted(set(placed))[:ROWS]
    begin = min(row["started"] for row in ran)
    figure, axes = pyplot.subplots(figsize=(11, 1.3 + 0.34 * len(shown)))
    width = now - begin or 1.0
    gap = width / 1500 if len(ran) <= CROWDED else 0.0
    lines = {place: line for line, place in enumerate(shown)}
    # What failed is drawn last: it must show where a pixel holds several members.
    states = sorted({row["state"] for row in ran}, key=lambda state: state == "Failed")
    for state in states:
        spans: dict[int, list[tuple[float, float]]] = {}
        for row, place in zip(ran, placed, strict=True):
            if row["state"] == state and place in lines:
                length = (row["ended"] or now) - row["started"]
                spans.setdefault(lines[place], []).append((row["started"] - begin, max(length - gap, width / 4000)))
                if length / width > 0.007 * len(row["name"]):
                    middle = row["started"] - begin + length / 2
                    axes.text(middle, lines[place], row["name"], ha="center", va="center", fontsize=7, color="white")
        for line, found in spans.items():
            axes.broken_barh(found, (line - 0.39, 0.78), color=COLOURS.get(state, FAINT), linewidth=0)
    axes.set_xlim(-width / 200, width * 1.005)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    several = len({node for node, _ in shown}) > 1
    axes.set_yticks(
        range(len(shown)), [f"{node} · {line}" if several else f"{line}" for node, line in shown], fontsize=8
    )
    axes.set_ylabel("slot")
    axes.invert_yaxis()
    axes.set_xlabel("seconds since the first member began")
    states = [state for state in COLOURS if state in states]
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[state]) for state in states]
    axes.legend(handles, states, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return figure


def _slots_in_use(pyplot: Any, ran: list[dict[str, Any]], now: float) -> Any:
    steps = busy(ran)
    begin = steps[0][0]
    figure, axes = pyplot.subplots(figsize=(11, 2.4))
    if len(ran) > CROWDED:
        times, counts = mean_busy(ran, now, CROWDED)
    else:
        times = [time - begin for time, _ in steps] + [now - begin]
        counts = [float(count) for _, count in steps] + [float(steps[-1][1])]
    axes.fill_between(times, counts, step="post", color="#6a4c93", alpha=0.85, linewidth=0)
    axes.set(xlabel="seconds since the first member began", ylabel="members running")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(0, None)
    axes.set_ylim(0, max(counts) * 1.1)
    return figure


def _numbers(ran: list[dict[str, Any]]) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """The numbers that programs left in result.json, four at most."""
    named = [
        key
        for key in next((row["result"] for row in ran if isinstance(row["result"], dict)), {})
        if all(_is_number(row["result"].get(key)) for row in ran if isinstance(row["result"], dict))
    ]

    def reader(key: str) -> Callable[[dict[str, Any]], Any]:
        return lambda row: row["result"].get(key) if isinstance(row["result"], dict) else None

    return {key: reader(key) for key in named[:4]}


def _by_parameter(pyplot: Any, ran: list[dict[str, Any]], values: dict[str, Callable[[dict[str, Any]], Any]]) -> Any:
    """Each value against each parameter that varies, four of each at most; None when there is nothing to draw."""
    names = list(dict.fromkeys(name for row in ran for name in row["params"]))
    varying = [name for name in names if len({row["params"].get(name) for row in ran}) > 1][:4]
    if not varying or not values:
        return None
    figure, grid = pyplot.subplots(
        len(values), len(varying), figsize=(0.8 + 3.4 * len(varying), 2.6 * len(values)), squeeze=False, sharey="row"
    )
    for line, (label, value) in enumerate(values.items()):
        for column, name in enumerate(varying):
            _scatter(grid[line][column], [row for row in ran if value(row) is not None], name, value)
        grid[line][0].set_ylabel(label)
    for column, name in enumerate(varying):
        grid[-1][column].set_xlabel(name)
    return figure


def _scatter(axes: Any, ran: list[dict[str, Any]], name: str, value: Callable[[dict[str, Any]], Any]) -> None:
    texts = [row["params"].get(name, "") for row in ran]
    colours = [COLOURS.get(row["state"], FAINT) for row in ran]
    if all(_is_number(text) for text in texts):
        places = [float(text) for text in texts]
    else:
        known = list(dict.fromkeys(texts))
        places = [float(known.index(text)) for text in texts]
        axes.set_xticks(range(len(known)), known)
    # Of many members each is fainter, so that where they are dense still shows.
    alpha = max(0.15, min(0.8, 0.8 * CROWDED / max(1, len(ran))))
    axes.scatter(
        places, [value(row) for row in ran], s=26 if len(ran) <= CROWDED else 9, color=colours, alpha=alpha, linewidth=0
    )
    axes.grid(color=FAINT, alpha=0.25, linewidth=0.6)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
