"""A kept control plane with one finished run, and the commands that show it; for the tests of the dashboard and the metrics."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskensemble import Experiment

COMMAND = [sys.executable, "-m", "taskensemble.cli.main"]
PASSWORD = "a-password-of-the-test"
PROGRAM = """
T=$(cat in.txt)
echo "hello $T"
[ "$T" != 3 ] || { echo bad weather >&2; exit 3; }
echo "{\\"y\\": $((T * T))}" > result.json
"""


@contextmanager
def finished_run(folder: Path, program: str = PROGRAM) -> Iterator[str]:
    """Six members under a kept control plane in `folder`, of which number 3 fails; gives the run's id."""
    subprocess.run([*COMMAND, "up", "--slots", "2"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        (folder / "in.txt").write_text(";T;")
        experiment = Experiment("sweep", exp_path=str(folder), launcher="local")
        settings = experiment.create_run_settings("sh", exe_args=["-c", program])
        ensemble = experiment.create_ensemble("sweep", params={"T": list(range(6))}, run_settings=settings)
        ensemble.attach_generator_files(to_configure=str(folder / "in.txt"))
        yield experiment.start(ensemble, block=True).run_id
    finally:
        subprocess.run([*COMMAND, "down"], check=True, stdout=subprocess.DEVNULL, cwd=folder)


@contextmanager
def serving(folder: Path, url: str, *arguments: str, **environment: str) -> Iterator[None]:
    """A command of ours that serves `url`, until the block ends."""
    process = subprocess.Popen([*COMMAND, *arguments], cwd=folder, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                assert process.poll() is None, f"{arguments} ended with status {process.returncode}"
                assert time.monotonic() < deadline, f"{url} did not answer in time"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)
