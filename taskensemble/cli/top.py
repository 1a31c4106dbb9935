"""`top`: runs, workers, queues and databases on the whole terminal, as they change."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from taskensemble.cli.output import COLOURS, JSON_OPTION, print_json
from taskensemble.cli.plane import BROKER_OPTION, PATH_OPTION, STORE_OPTION, opened
from taskensemble.engine.messages import Publisher
from taskensemble.engine.store import Store
from taskensemble.progress import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

BAR, SHORT_BAR = 24, 8
"""Characters of a bar; the shorter one on a terminal of less than WIDE columns, which shows fewer columns as well."""

WIDE = 105
"""Columns of a terminal that all columns fit into."""

STATES = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "bright_black"}
"""Counters of a run in the order of its bar."""

LOST = 15.0
"""Seconds without a beat after which a worker's line is yellow; workers beat every few seconds."""


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command()(top)


def top(
    *,
    path: Path = PATH_OPTION,
    broker: str | None = BROKER_OPTION,
    store: str | None = STORE_OPTION,
    interval: float = typer.Option(1.0, min=0.1, help="Seconds between two pictures."),
    count: int = typer.Option(0, min=0, help="Pictures to show; 0: until `q` or Ctrl-C."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show runs, workers, queues and databases live on the whole terminal.

    `q` ends it. With --json: once, as it is now.
    """
    from rich.console import Console
    from rich.live import Live

    with opened(path, broker, store) as control:
        publisher = Publisher(control.broker_url)
        try:
            now = sample(control.store, publisher)
            if as_json:
                print_json(now)
                return
            console = Console()
            shown = 1
            with _keys() as pressed, Live(screen=console.is_terminal, console=console, auto_refresh=False) as live:
                before: dict[str, Any] | None = None
                while True:
                    live.update(picture(now, before, console.height, console.width), refresh=True)
                    if (count and shown >= count) or "q" in pressed(interval):
                        break
                    shown += 1
                    before, now = now, sample(control.store, publisher)
            if not console.is_terminal:
                # The last picture has no end of line of its own there.
                console.line()
        finally:
            publisher.close()


def sample(store: Store, publisher: Publisher) -> dict[str, Any]:
    """What there is at this moment: `time`, `runs`, `workers`, `queues`, `databases`, as plain values."""
    from taskensemble.dashboard import snapshot

    return {
        "time": time.time(),
        **snapshot.overview(store),
        "workers": [worker.model_dump(mode="json") for worker in store.workers()],
        "queues": [
            {"name": queue.name, "run": queue.run, "waiting": publisher.length(queue.name)} for queue in store.queues()
        ],
        "databases": snapshot.databases(store),
    }


def picture(now: Mapping[str, Any], before: Mapping[str, Any] | None, height: int, width: int) -> RenderableType:
    """A sample as tables.

    Parameters:
        before: the sample that rates are told against, or None.
        height: lines of the terminal; what does not fit is left out, oldest runs first, and counted.
        width: its columns; a narrow one shows less of each line.
    """
    from rich.console import Group
    from rich.text import Text

    runs, workers = now["runs"], now["workers"]
    active = sum(run["state"] == "Running" for run in runs)
    slots, free = (sum(worker[name] for worker in workers) for name in ("slots", "free"))
    head = Text.assemble(
        ("taskensemble", "bold"),
        f"  {time.strftime('%H:%M:%S', time.localtime(now['time']))}  ",
        f"runs {len(runs)} ({active} running)  workers {len(workers)}  slots {slots - free}/{slots} in use  q: end",
    )
    others = len(workers) + len(now["queues"]) + sum(max(1, len(each["assets"])) for each in now["databases"])
    room = max(3, height - 12 - min(others, height // 2))
    rest = max(2, (height - 12 - min(len(runs), room)) // 3)
    bar = BAR if width >= WIDE else SHORT_BAR
    left_out: set[str] = set() if width >= WIDE else {"Cancelled", "Rate", "Host", "GPUs", "Memory", "Clients"}
    parts: list[RenderableType] = [head, Text(), _runs(now, before, room, bar, left_out)]
    parts += [Text(), _workers(workers, rest, bar, left_out)]
    parts += [Text(), _queues(now["queues"], rest), Text(), _databases(now, before, rest, left_out)]
    return Group(*parts)


def _runs(
    now: Mapping[str, Any], before: Mapping[str, Any] | None, room: int, bar: int, left_out: set[str]
) -> RenderableType:
    from rich.text import Text

    earlier = {run["run_id"]: _ended(run) for run in before["runs"]} if before else {}
    passed = now["time"] - before["time"] if before else 0.0
    rows = [
        (
            run["run_id"],
            Text(run["state"], style=COLOURS.get(run["state"], "")),
            _bar([(run[state], style) for state, style in STATES.items()], run["size"], bar),
            *(Text(str(run[state]), style=style if run[state] else "bright_black") for state, style in STATES.items()),
            f"{(_ended(run) - earlier[run['run_id']]) / passed:.1f}/s"
            if run["ended"] is None and run["run_id"] in earlier and passed > 0
            else "",
            duration((run["ended"] or now["time"]) - run["started"]) if run["started"] is not None else "",
        )
        for run in now["runs"]
    ]
    columns = ("Run", "State", "Members", "Done", "Failed", "Cancelled", "Running", "Queued", "Rate", "Took")
    return _grid(columns, rows, room, left_out)


def _ended(run: Mapping[str, Any]) -> int:
    return int(run["completed"] + run["failed"] + run["cancelled"])


def _workers(workers: list[dict[str, Any]], room: int, bar: int, left_out: set[str]) -> RenderableType:
    from rich.text import Text

    rows = [
        (
            Text(worker["name"], style="yellow" if worker["age"] > LOST else ""),
            worker["host"],
            _bar([(worker["slots"] - worker["free"], "cyan"), (worker["free"], "bright_black")], worker["slots"], bar),
            f"{worker['slots'] - worker['free']}/{worker['slots']}",
            worker["running"],
            len(worker["gpus"]) or "",
            f"{worker['age']:.0f} s ago",
        )
        for worker in workers
    ]
    return _grid(("Worker", "Host", "Slots", "In use", "Members", "GPUs", "Seen"), rows, room, left_out)


def _queues(queues: list[dict[str, Any]], room: int) -> RenderableType:
    rows = [(queue["name"], queue["run"], queue["waiting"]) for queue in queues]
    return _grid(("Queue", "Run", "Waiting"), rows, room)


def _databases(
    now: Mapping[str, Any], before: Mapping[str, Any] | None, room: int, left_out: set[str]
) -> RenderableType:
    from rich.text import Text

    earlier = {_place(database, asset): asset for database, asset in _assets(before)} if before else {}
    seconds = now["time"] - before["time"] if before else 0.0
    rows: list[tuple[object, ...]] = []
    for database in now["databases"]:
        name = Text(database["identifier"] or "orchestrator", style="" if database["up"] else "red")
        facts = (name, f"{database['memory'] / 2**20:.1f} MiB", database["clients"])
        if not database["assets"]:
            rows.append((*facts, "", "", "", "", ""))
        for asset in database["assets"]:
            last = earlier.get(_place(database, asset))
            rate = f"{max(0, asset['calls'] - last['calls']) / seconds:.1f}" if last and seconds > 0 else ""
            mean = f"{asset['seconds'] / asset['calls'] * 1000:.2f}" if asset["calls"] else ""
            rows.append((*facts, asset["name"], f"{asset['backend']} {asset['device']}", asset["calls"], rate, mean))
    columns = ("Database", "Memory", "Clients", "Model or script", "On", "Calls", "Calls/s", "Mean ms")
    return _grid(columns, rows, room, left_out)


def _assets(sampled: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for database in sampled["databases"]:
        for asset in database["assets"]:
            yield database, asset


def _place(database: Mapping[str, Any], asset: Mapping[str, Any]) -> tuple[str, ...]:
    return database["experiment"], database["identifier"], asset["shard"], asset["name"]


def _grid(
    columns: tuple[str, ...], rows: Sequence[tuple[object, ...]], room: int, left_out: Collection[str] = ()
) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, header_style="bold", pad_edge=False)
    shown = [place for place, column in enumerate(columns) if column not in left_out]
    for place in shown:
        grid.add_column(columns[place], no_wrap=True)
    for row in rows[:room]:
        cells = (row[place] for place in shown)
        grid.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))
    if len(rows) > room:
        grid.add_row(Text(f"… {len(rows) - room} more", style="bright_black"))
    elif not rows:
        grid.add_row(Text("none", style="bright_black"))
    return grid


def _bar(parts: Iterable[tuple[int, str]], whole: int, characters: int) -> Text:
    """A bar with a share of its length for each part; a part that is not zero shows, if only by one character."""
    from rich.text import Text

    bar = Text()
    for amount, style in parts:
        length = max(1, round(characters * amount / whole)) if amount and whole else 0
        bar.append("━" * min(length, characters - len(bar.plain)), style=style)
    return bar


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits for some seconds, or less when a key is pressed, and returns what was pressed."""
    if not sys.stdin.isatty():

        def sleep(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield sleep
        return
    saved = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def pressed(seconds: float) -> str:
        return sys.stdin.read(1) if select.select([sys.stdin], [], [], seconds)[0] else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)
