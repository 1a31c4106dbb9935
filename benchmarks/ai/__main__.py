"""`python -m benchmarks.ai [--quick] [--rounds N] [--seconds S] [--json FILE] [--device GPU:0]`: print the table of figures.

Everything that is compared runs in the same rounds, next to each other; a figure is the median of the rounds, a ratio
the median of the rounds' ratios. `--quick` is for CI: two short rounds without ResNet-18, which only shows that all of it works.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from .figures import Bench, Row, memory_rows
from .models import CONVNET, LINEAR, RESNET


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ai", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two short rounds, no ResNet-18")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; figures are their medians (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds for one measurement in one round")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait for a calm machine before each group"
    )
    parser.add_argument("--json", type=Path, help="write every sample here as well")
    parser.add_argument("--device", default="CPU", type=str.upper, help="where the models run: CPU (default) or GPU:n")
    options = parser.parse_args()
    rounds, seconds = (2, 0.2) if options.quick else (options.rounds, options.seconds)
    subjects = [LINEAR, CONVNET] if options.quick else [LINEAR, CONVNET, RESNET]
    cores = os.process_cpu_count() if hasattr(os, "process_cpu_count") else len(os.sched_getaffinity(0))
    print(
        f"{cores} cores, models on {options.device}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"{rounds} rounds of {seconds} s"
    )
    with Bench(seconds, subjects, options.patience, options.device) as bench:
        for number in range(rounds):
            bench.round()
            print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
        rows = list(bench.rows())
        if options.json:
            options.json.write_text(json.dumps(bench.samples.values, indent=1))
    if options.device == "CPU":
        rows += memory_rows(subjects[-1])
    print(table(rows))
    return 0


def table(rows: list[Row]) -> str:
    """The rows as Markdown, aligned."""
    lines = [("what", "measured", "beside it", "reach", "met")]
    lines += [(row.what, row.measured, row.beside, row.target, "yes" if row.met else "no") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
