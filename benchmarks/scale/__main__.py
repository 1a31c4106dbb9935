"""Simulated workers against one broker: `python -m benchmarks.scale [--workers N …] [--slots 64] [--members N] [--seconds S] …`.

For each number of workers it prints what a member costs the broker, how busy that was, what leases and beats cost it while all
slots are taken (`--hold S`), and where it is full when the requests come as fast as it answers (`--saturate N`).
"""

from __future__ import annotations

import argparse
import json
import sys

from benchmarks.scale.saturate import saturate
from benchmarks.scale.simulation import Spent, simulation


def line(what: str, found: Spent) -> str:
    """One row of the table of runs."""
    return (
        f"{what:<26} {found.rate:>9,.0f} {found.share * 100:>8.0f} {found.cpu_us:>10.0f} {found.capacity:>10,.0f} "
        f"{found.requests:>9.2f} {found.commands:>9.1f} {found.received:>9.0f} {found.sent:>9.0f}"
    )


HEAD = (
    f"{'':<26} {'members/s':>9} {'broker %':>8} {'CPU us/m':>10} {'full at/s':>10} {'requests':>9} {'commands':>9} "
    f"{'bytes in':>9} {'out':>9}   (broker: share of one core; the last four a member)"
)


def held(workers: int, slots: int, found: Spent) -> str:
    """One row about leases and beats: of a while, `cpu_us` is of a second."""
    return (
        f"{workers} x {slots} held: broker {found.share * 100:.1f} % of a core, {found.requests:.0f} requests a second, "
        f"{found.received / 1024:.0f} and {found.sent / 1024:.0f} KiB/s in and out"
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 64, 250])
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--members", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=0.0, help="that a member runs")
    parser.add_argument("--processes", type=int, default=1, help="that the simulated workers are spread over")
    parser.add_argument(
        "--hold", type=float, default=0.0, help="seconds to look at the broker while all slots are taken"
    )
    parser.add_argument("--saturate", type=int, default=0, help="members whose requests are sent as fast as it answers")
    parser.add_argument("--commands", action="store_true", help="print the commands of a member")
    options = parser.parse_args(argv)
    print(HEAD, flush=True)
    for workers in options.workers:
        with simulation(workers, options.slots, processes=options.processes, seconds=options.seconds) as simulated:
            found = simulated.run(options.members)
            print(line(f"{workers} x {options.slots}", found), flush=True)
            data, clients = simulated.broker.memory()
            connections = simulated.broker.redis.info("clients")["connected_clients"]
            print(f"    {connections} connections; memory of data {data:.0f} MiB, of clients {clients:.0f} MiB")
            if options.commands:
                calls = sorted(found.by_command.items(), key=lambda each: -each[1])[:16]
                print("    " + json.dumps({name: round(count, 3) for name, count in calls}))
        if options.hold:
            with simulation(workers, options.slots, processes=options.processes, seconds=1e6) as simulated:
                print("    " + held(workers, options.slots, simulated.hold(options.hold)), flush=True)
    if options.saturate:
        with simulation(1, 1) as simulated:
            print(line("requests written ahead", saturate(simulated, options.saturate, options.slots)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
