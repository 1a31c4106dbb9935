"""What a driver costs: `python -m benchmarks.driver [members]`. Import, cold and warm start, a large ensemble, its stop."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.rows import Row, text
from benchmarks.scratch import folder

DRIVERS = Path(__file__).with_name("drivers")
ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5


def run(name: str, *arguments: object) -> tuple[Any, float]:
    """Runs a driver in a folder of its own: what it printed as JSON, and the seconds it took with its interpreter."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    environment.pop("TASKENSEMBLE_BROKER_URL", None)
    command = [sys.executable, str(DRIVERS / f"{name}.py"), *map(str, arguments)]
    where = folder(f"{name}-")
    begun = time.perf_counter()
    done = subprocess.run(command, check=True, cwd=where, env=environment, stdout=subprocess.PIPE, text=True)
    taken = time.perf_counter() - begun
    lines = [line for line in done.stdout.splitlines() if line.startswith(("{", "["))]
    return json.loads(lines[-1]) if lines else None, taken


def import_time(what: str) -> float:
    """Seconds of one `import` in a fresh interpreter, the interpreter's own start excluded; the quickest of a few."""
    code = f"import time; t = time.perf_counter(); {what}; print(time.perf_counter() - t)"
    command = [sys.executable, "-P", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return min(float(subprocess.check_output(command, env=environment, text=True)) for _ in range(ROUNDS))


def rows(members: int = 100_000) -> list[Row]:
    """The figures of drivers."""
    imported = import_time("import taskensemble")
    made = import_time("from taskensemble import Experiment")
    cold = statistics.median(run("cold")[1] for _ in range(ROUNDS))
    (to_child, to_return), _ = run("warm", 21)
    large, _ = run("large", members)
    generated, _ = run("generated", 10_000)
    many = f"{members:,} members"
    enqueued = f"{members / large['start']:,.0f} members a second, as the driver sees it"
    return [
        Row("`import taskensemble`", imported * 1e3, "ms", 150, beside=f"with Experiment {made * 1e3:.0f} ms"),
        Row("cold `python driver.py`, one member, to the end", cold, "s", 2.5),
        Row("warm `start` of one member: call to child's first instruction", to_child * 1e3, "ms", 50),
        Row("child's exit to the driver's return", to_return * 1e3, "ms", 20),
        Row(f"`start(block=False)` of {many}", large["start"], "s", 5, beside=enqueued),
        Row("enqueued, members a second", members / large["start"], "/s", 20_000, least=True),
        Row(
            "10,000 members with files: expansion, `generate` and `start`",
            generated["total"],
            "s",
            15,
            beside=f"generate {generated['generated']:.1f} s",
        ),
        Row("memory of that driver", generated["memory"] * 1.048576, "MB", 300),
        Row(f"memory of the driver with {many}", large["memory"] * 1.048576, "MB", 400),
        Row(f"status of a run of {many}: counters", large["status"] * 1e3, "ms", 50),
        Row("  its entities", large["entities"] * 1e3, "ms", 50),
        Row("  the state of every member", large["states"] * 1e3, "ms"),
        Row("  all: every member's record and latest attempt", large["members"], "s", 2),
        Row("  `taskensemble status RUN`, its interpreter included", large["cli"], "s", 2),
        Row("  `taskensemble status RUN --members`", large["cli_members"], "s"),
        Row(f"stop of {many}, 2 of them running", large["stop"], "s", 2),
    ]


if __name__ == "__main__":
    print(text(rows(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
