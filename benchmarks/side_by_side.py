"""Members a second beside the peers: `python -m benchmarks.side_by_side [members] [--rounds N] [--json FILE]`.

Every round runs taskensemble and then each peer once, so that all of them see the same machine; a figure is the median of the
rounds, a ratio the median of the rounds' ratios. Members are `/bin/true`, two at a time, with output files on all sides.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.members import Plane
from benchmarks.peers import REQUIREMENTS, measure
from benchmarks.scratch import folder

BASELINE = Path(__file__).with_name("baseline.json")
"""Ratios to the peers that `--check` compares with; written by `--json benchmarks/baseline.json`."""

ALLOWED_FALL = 0.25
"""A ratio that falls by more than this share fails the check."""

PEERS = [peer for peer in REQUIREMENTS if peer not in ("merlin", "smartsim")]
"""Those that run by default; the other two take minutes for a thousand members."""


def ratios(size: int, rounds: int, peers: list[str]) -> dict[str, list[float]]:
    """Our members a second over each peer's, a number a round; the printed table is on the way."""
    rates: dict[str, list[float]] = {"taskensemble": []}
    plane = Plane(folder("side-by-side-"))
    try:
        plane.worker(2)
        for _ in range(rounds):
            rates["taskensemble"].append(size / plane.run(["/bin/true"], size).whole)
            for peer in peers:
                try:
                    rate = measure(peer, size).members_per_s
                    rates.setdefault(peer, []).append(rate)
                except subprocess.SubprocessError as error:
                    print(f"{peer} did not run: {error}", file=sys.stderr)
    finally:
        plane.close()
    ours = rates["taskensemble"]
    found = {peer: [a / b for a, b in zip(ours, rates[peer], strict=False)] for peer in peers if peer in rates}
    print(f"members of /bin/true a second, {size} members, 2 slots, output to files, {rounds} rounds")
    for name, values in rates.items():
        beside = f"  taskensemble is {statistics.median(found[name]):.2f} x" if name in found else ""
        print(f"  {name:<14} {statistics.median(values):7.0f}{beside}")
    return found


def check(found: dict[str, list[float]], baseline: dict[str, float]) -> int:
    """Compare with the baseline; 1 when a ratio has fallen by more than a quarter, or a peer of the baseline is missing."""
    status = 0
    for peer, before in baseline.items():
        now = statistics.median(found[peer]) if peer in found else 0.0
        verdict = "ok" if now >= before * (1 - ALLOWED_FALL) else "FELL"
        status |= verdict == "FELL"
        print(f"  {peer:<14} baseline {before:.2f}, now {now:.2f}: {verdict}")
    return status


def main(arguments: list[str] | None = None) -> int:
    """Print the table; with --check compare it with the baseline as well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__)
    parser.add_argument("members", nargs="?", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the median ratios here; -: print them")
    parser.add_argument("--check", action="store_true", help="fail when a ratio fell by a quarter against the baseline")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the ratios to compare with")
    parser.add_argument("--peers", nargs="+", choices=list(REQUIREMENTS), default=PEERS)
    options = parser.parse_args(arguments)
    baseline: dict[str, float] = json.loads(options.baseline.read_text()) if options.check else {}
    peers = list(baseline) or options.peers
    found = ratios(options.members, options.rounds, peers)
    if options.json:
        medians = {peer: round(statistics.median(values), 3) for peer, values in found.items()}
        text = json.dumps(medians, indent=2)
        if options.json == Path("-"):
            print(text)
        else:
            options.json.write_text(text + "\n")
    return check(found, baseline) if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
