"""A large ensemble: `start(block=False)`, looks at it, memory, stop. Prints one JSON object, in seconds and MiB.

`members` members with a parameter each, on the embedded control plane and its worker, which begins to run them meanwhile.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis

from taskensemble import Experiment
from taskensemble.launch import embedded


def resident(field: str) -> float:
    """Memory of this process, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def timed(call: Callable[[], object], times: int = 1) -> float:
    """Median seconds of a call."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def exp_url(experiment: Experiment) -> str:
    """Where the embedded control plane of an experiment answers."""
    server = embedded.attach(Path(experiment.exp_path))
    assert server is not None
    return server.url


size = int(sys.argv[1])
found: dict[str, float] = {}
with Experiment("large") as exp:
    settings = exp.create_run_settings("/bin/sleep", exe_args=["1000"])
    exp.start(exp.create_model("first", exp.create_run_settings("/bin/true")), quiet=True)
    begun = time.perf_counter()
    ensemble = exp.create_ensemble("e", params={"X": list(range(size))}, perm_strategy="step", run_settings=settings)
    found["created"] = time.perf_counter() - begun
    begun = time.perf_counter()
    run = exp.start(ensemble, block=False, quiet=True)
    found["start"] = time.perf_counter() - begun
    found["memory"] = resident("VmHWM")
    # What a look costs is measured when the worker has published everything, and two members run.
    with redis.Redis.from_url(exp_url(exp)) as broker:
        queue = f"te.run.{run.run_id}.c1"
        while broker.llen(queue) + run.status().running < size:
            time.sleep(0.05)
    found["published"] = time.perf_counter() - begun
    found["status"] = timed(run.status, 21)
    found["entities"] = timed(run.states, 21)
    found["states"] = timed(run.member_states, 5)
    found["members"] = timed(run.members, 3)
    cli = [sys.executable, "-P", "-m", "taskensemble.cli.main", "status", run.run_id, "--path", exp.exp_path]
    found["cli"] = timed(lambda: subprocess.run(cli, check=True, stdout=subprocess.DEVNULL), 3)
    found["cli_members"] = timed(lambda: subprocess.run([*cli, "-m"], check=True, stdout=subprocess.DEVNULL))
    found["stop"] = timed(run.stop)
print(json.dumps(found))
