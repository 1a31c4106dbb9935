"""`taskensemble scale`: allocations from none to two and back, and a scaler that is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import REPOSITORY, Drive
from tests.system.slurm_cluster import NODES, SlurmCluster, wait_until

DESCRIPTION = """
launcher = "slurm"
nodes = 1
time = "{time}"
[batch_args]
exclusive = true
"""


class Scale:
    """`taskensemble scale` as a process."""

    def __init__(self, slurm: SlurmCluster, folder: Path, url: str) -> None:
        self._environment = {**slurm.environment, "PYTHONPATH": str(REPOSITORY), "TASKENSEMBLE_BROKER_URL": url}
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.describe()

    def describe(self, time: str = "00:05:00") -> None:
        """What an allocation asks for."""
        (self._folder / "sbatch.toml").write_text(DESCRIPTION.format(time=time))

    def start(self, most: int = 2) -> None:
        command = [
            sys.executable,
            "-m",
            "taskensemble.cli.main",
            "scale",
            "--max",
            str(most),
            "--idle",
            "3",
            "--interval",
            "0.5",
        ]
        with (self._folder / "scale.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--batch", "sbatch.toml"], env=self._environment, cwd=self._folder, stdout=log, stderr=log
            )

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)

    def log(self) -> str:
        return (self._folder / "scale.log").read_text()


@pytest.fixture
def scale(slurm: SlurmCluster, valkey: str, tmp_path: Path) -> Iterator[Scale]:
    process = Scale(slurm, tmp_path, valkey)
    yield process
    process.stop()


# The first members do not end before a second allocation has begun, however slowly it comes.
PATIENT = """
mkdir -p ../../seen; touch ../../seen/$SLURM_JOB_ID
for turn in $(seq 900); do [ $(ls ../../seen | wc -l) -ge 2 ] && break; sleep 0.2; done
echo $SLURM_JOB_ID $SLURMD_NODENAME
"""


def test_allocations_go_from_none_to_two_and_back(drive: Drive, slurm: SlurmCluster, valkey: str, scale: Scale) -> None:
    scale.start()
    driver = drive(
        f"""
        exp = Experiment("scaled", launcher="slurm")
        rs = exp.create_run_settings("/bin/sh", ["-c", {PATIENT!r}])
        ens = exp.create_ensemble("many", run_settings=rs, replicas=24)
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens), out=[Path(m.path, m.name + ".out").read_text().split() for m in ens])
        """,
        TASKENSEMBLE_BROKER_URL=valkey,
    )
    told = driver.result(timeout=240)
    assert told["states"] == ["Completed"] * 24, scale.log()
    assert len({out[0] for out in told["out"]}) == 2
    assert {out[1] for out in told["out"]} == {"n1", "n2"}
    wait_until(lambda: not slurm.jobs(), 120, f"idle allocations end\n{scale.log()}")


def test_a_scaler_that_is_started_again_goes_on_with_the_allocations_it_finds(
    drive: Drive, slurm: SlurmCluster, valkey: str, scale: Scale
) -> None:
    holder = slurm.run(
        "sbatch", "--parsable", f"-N{len(NODES)}", "--exclusive", "--output=/dev/null", "--wrap", "sleep 300"
    ).strip()
    scale.start()
    driver = drive(
        """
        exp = Experiment("again", launcher="slurm")
        ens = exp.create_ensemble("few", run_settings=exp.create_run_settings("/bin/true"), replicas=2)
        exp.start(ens, quiet=True)
        tell(states=exp.get_status(ens))
        """,
        TASKENSEMBLE_BROKER_URL=valkey,
    )
    wait_until(lambda: len(slurm.jobs()) == 2, 120, "the scaler asks for an allocation")
    assert scale.process is not None
    os.kill(scale.process.pid, signal.SIGKILL)
    scale.process.wait()
    before = set(slurm.jobs())
    scale.start()
    slurm.run("scancel", holder)
    assert driver.result(timeout=240)["states"] == ["Completed"] * 2
    assert set(slurm.jobs()) <= before
    wait_until(lambda: not slurm.jobs(), 120, f"idle allocations end\n{scale.log()}")
    wait_until(lambda: "has ended" in scale.log(), 60, "the new scaler knows of the old one's allocation")
