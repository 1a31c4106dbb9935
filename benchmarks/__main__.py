"""`python -m benchmarks` prints every table, `python -m benchmarks NAME …` one, `--markdown` all but the AI's as
docs/performance.md has them, with the ratios as `benchmarks/baseline.json` keeps them. `--check`, and all tables together, fail
when a ratio to a peer has fallen by a quarter; `--check` also when what a member costs has risen by one as runs grow.

    members [N]        members a second, CPU time a member, memory of worker and broker, stop
    side_by_side [N]   the same members with the peers
    driver [N]         import, cold and warm start, a large ensemble, its status
    database           start of a database, loading of a large model
    flat [N]           cost as members, workers and slots grow
    scale              many simulated workers against one broker
    ai                 inference
    soak [MINUTES]     many short runs, which must leave nothing behind; not among the tables
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Row, markdown, text
from benchmarks.scratch import file_cost

NAMES = ("members", "side_by_side", "driver", "database", "flat", "scale", "ai", "soak")


def sections() -> list[tuple[str, Callable[[], list[Row]]]]:
    """The tables of rows, each with the command that prints it alone."""
    from benchmarks import database, driver, flat, members

    return [
        ("python -m benchmarks members", members.rows),
        ("python -m benchmarks driver", driver.rows),
        ("python -m benchmarks database", database.rows),
        ("python -m benchmarks flat", flat.rows),
    ]


def machine() -> str:
    """What the figures were measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    cores = f"{len(os.sched_getaffinity(0))} cores ({model}), Python {platform.python_version()}"
    return f"{cores}; load before: {load}; making a file: {file_cost():.0f} us of CPU time"


def everything(as_markdown: bool) -> int:
    """Print the tables; 1 when one of them could not be measured."""
    begun = time.monotonic()
    status = 0
    print(f"Measured {time.strftime('%Y-%m-%d %H:%M')} on {machine()}.\n", flush=True)
    for command, rows in sections():
        print(f"`{command}`:\n" if as_markdown else command)
        try:
            found = rows()
            print(markdown(found) if as_markdown else text(found))
        except (subprocess.SubprocessError, OSError, RuntimeError) as error:
            status = 1
            print(f"not measured: {error}")
        print(flush=True)
    others = [
        ["side_by_side", "1000", "--rounds", "3", "--check", "--json", "-"],
        ["side_by_side", "10000", "--rounds", "1", "--peers", "xargs", "hyperqueue", "dask"],
        ["side_by_side", "100", "--rounds", "1", "--peers", "merlin", "smartsim"],
        ["scale", "--workers", "1", "64", "250", "--hold", "15", "--saturate", "50000"],
    ]
    if not as_markdown:
        others.append(["ai"])
    for each in others:
        print(f"python -m benchmarks {' '.join(each)}", flush=True)
        # A process of its own: what it pins or raises for itself ends with it.
        status |= subprocess.run([sys.executable, "-m", f"benchmarks.{each[0]}", *each[1:]], check=False).returncode
        print(flush=True)
    print(f"All of it took {(time.monotonic() - begun) / 60:.0f} minutes.")
    return status


def main(arguments: list[str]) -> int:
    """Print what is asked for."""
    if not arguments or arguments == ["--markdown"]:
        return everything(bool(arguments))
    if arguments == ["--check"]:
        checks = (["side_by_side", "--check"], ["flat", "--check"])
        return max([main(each) for each in checks])
    if arguments[0] not in NAMES:
        print(__doc__)
        return 2
    return subprocess.run([sys.executable, "-m", f"benchmarks.{arguments[0]}", *arguments[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
