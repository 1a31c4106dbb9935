"""Cost as it grows: `python -m benchmarks.flat [most members]`, or `--check` against `benchmarks/flat.json`. Members, workers and
slots, each over decades, with simulated children. A million members take minutes, so they are asked for by hand.

A figure is the time from the first start to the last end over the number of members: the worker's and the broker's work, without
the programs. Simulated workers share one core, so the time of many workers is that of their work, not of their waiting. With
members that last no time at all a worker and the broker may wait for one another, or work at once: CPU time tells the one from
the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.rows import Row, text
from benchmarks.scale.simulation import Spent, simulation

MEMBERS = (100, 1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 4, 16, 64)
SLOTS = (1, 8, 32, 128)
SIZE = 5_000
BASELINE = Path(__file__).with_name("flat.json")
"""What `--check` compares with; written by `--json benchmarks/flat.json`."""
ALLOWED_RISE = 0.25
"""A figure that rises by more than this share fails the check."""


def growing_members(sizes: Sequence[int]) -> list[tuple[int, Spent]]:
    """One worker with 64 slots, runs of growing size."""
    found = []
    with simulation(1, 64) as simulated:
        simulated.run(1_000)
        for size in sizes:
            rounds = [simulated.run(size) for _ in range(max(1, min(9, 10_000 // size)))]
            found.append((size, sorted(rounds, key=lambda each: each.span)[len(rounds) // 2]))
    return found


def growing(shapes: Sequence[tuple[int, int]]) -> list[tuple[int, int, Spent]]:
    """Workers and slots of these shapes, the same run on each."""
    found = []
    for workers, slots in shapes:
        with simulation(workers, slots) as simulated:
            simulated.run(1_000)
            rounds = [simulated.run(SIZE) for _ in range(3)]
            found.append((workers, slots, sorted(rounds, key=lambda each: each.span)[1]))
    return found


def spread(times: Sequence[float]) -> float:
    """How far the times lie from their median at most, in percent."""
    middle = statistics.median(times)
    return max(abs(each / middle - 1) for each in times) * 100


def rows(most: int = 100_000) -> list[Row]:
    """The figures of growth."""
    by_size = growing_members([size for size in MEMBERS if size <= most])
    by_workers = growing([(workers, 16) for workers in WORKERS])
    by_slots = growing([(1, slots) for slots in SLOTS])
    found = []
    groups = [
        (f"members from 100 to {most:,}", [(f"{size:,}", each) for size, each in by_size]),
        ("workers from 1 to 64", [(str(workers), each) for workers, _, each in by_workers]),
        ("slots from 1 to 128", [(str(slots), each) for _, slots, each in by_slots]),
    ]
    for what, group in groups:
        times = [each.span / each.members * 1e6 for _, each in group]
        beside = ", ".join(f"{name}: {time:.0f}" for (name, _), time in zip(group, times, strict=True))
        found.append(
            Row(f"time a member, {what}: farthest from the median", spread(times), "%", 20, beside=f"us: {beside}")
        )
        costs = [each.cpu_us + each.workers_us for _, each in group]
        beside = ", ".join(f"{name}: {each.cpu_us:.0f} + {each.workers_us:.0f}" for name, each in group)
        found.append(Row("  CPU time of broker and workers", spread(costs), "%", 20, beside=f"us: {beside}"))
        requests = ", ".join(f"{name}: {each.requests:.2f}" for name, each in group)
        most_requests = max(each.requests for _, each in group)
        found.append(Row("  requests to the broker a member, the most", most_requests, "", beside=requests))
        commands = ", ".join(f"{name}: {each.commands:.1f}" for name, each in group)
        most_commands = max(each.commands for _, each in group)
        found.append(Row("  commands in it, those of its script included", most_commands, "", beside=commands))
    return found


def figures() -> dict[str, float]:
    """What must not rise: the quickest runs beside each other, and counts, which other work on the machine does not disturb."""
    with simulation(1, 64) as simulated:
        simulated.run(1_000)
        turns = [(simulated.run(SIZE // 5), simulated.run(SIZE * 2)) for _ in range(3)]
    small, large = (min(runs, key=lambda each: each.span) for runs in zip(*turns, strict=True))
    (_, _, many) = growing([(16, 16)])[0]
    return {
        "time a member, ten times as many": (large.span / large.members) / (small.span / small.members),
        "commands a member, one worker": large.commands,
        "commands a member, 16 workers": many.commands,
        "requests a member, one worker": large.requests,
        "requests a member, 16 workers": many.requests,
    }


def check(found: Mapping[str, float], baseline: Mapping[str, float]) -> int:
    """Compare with the baseline; 1 when a figure has risen by more than a quarter."""
    status = 0
    for what, before in baseline.items():
        now = found[what]
        verdict = "ok" if now <= before * (1 + ALLOWED_RISE) else "ROSE"
        status |= verdict == "ROSE"
        print(f"  {what:<36} baseline {before:.2f}, now {now:.2f}: {verdict}")
    return status


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or check what grows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flat", description=__doc__)
    parser.add_argument("most", nargs="?", type=int, default=100_000, help="most members of a run")
    parser.add_argument(
        "--check", action="store_true", help="fail when a figure rose by a quarter against the baseline"
    )
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the figures to compare with")
    parser.add_argument("--json", type=Path, help="write the figures of the check here")
    options = parser.parse_args(arguments)
    if not options.check and not options.json:
        print(text(rows(options.most)))
        return 0
    found = figures()
    if options.json:
        options.json.write_text(json.dumps({what: round(value, 3) for what, value in found.items()}, indent=2) + "\n")
    return check(found, json.loads(options.baseline.read_text())) if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
