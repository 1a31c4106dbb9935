"""Cost as it grows: `python -m benchmarks.flat [most members]`. Members, workers and slots, each over decades, with simulated
children. A million members take minutes, so they are asked for by hand.

A figure is the time from the first start to the last end over the number of members: the worker's and the broker's work, without
the programs. Simulated workers share one core, so the time of many workers is that of their work, not of their waiting.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from benchmarks.rows import Row, text
from benchmarks.scale.simulation import Spent, simulation

MEMBERS = (100, 1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 4, 16, 64)
SLOTS = (1, 8, 32, 128)
SIZE = 5_000


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
        requests = ", ".join(f"{name}: {each.requests:.2f}" for name, each in group)
        most_requests = max(each.requests for _, each in group)
        found.append(Row("  requests to the broker a member, the most", most_requests, "", beside=requests))
        commands = ", ".join(f"{name}: {each.commands:.1f}" for name, each in group)
        most_commands = max(each.commands for _, each in group)
        found.append(Row("  commands in it, those of its script included", most_commands, "", beside=commands))
    return found


if __name__ == "__main__":
    sys.stdout.write(text(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)) + "\n")
