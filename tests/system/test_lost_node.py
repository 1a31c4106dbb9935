"""A batch job whose node is lost: nothing in it is told, no signal comes, and the driver that watches asks for the next one."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from taskensemble.engine.store import Store
from tests.system.conftest import Drive
from tests.system.slurm_cluster import SlurmCluster, wait_until

SURVIVOR = """
echo $TASKENSEMBLE_ATTEMPT $SLURM_JOB_ID >> trace
if [ -e second ]; then exit 0; fi
touch second; sleep 300
"""
DRIVER = """
exp = Experiment("lost", launcher="slurm")
bs = exp.create_batch_settings(nodes=1, time="00:05:00", batch_args={{"exclusive": None}}, requeue=1)
ens = exp.create_ensemble("e", batch_settings=bs, run_settings=exp.create_run_settings("/bin/sh", ["-c", {script!r}]), replicas=2)
handle = exp.start(ens, block=False, quiet=True)
while not all(Path(m.path, "second").exists() for m in ens):
    time.sleep(0.1)
tell(run=handle.run_id)
handle.wait()
tell(states=exp.get_status(ens), traces=[Path(m.path, "trace").read_text().split() for m in ens])
"""


def lose(slurm: SlurmCluster, job: str) -> str:
    """Kill all that a job has started, Slurm's own keeper of it first, and declare its node dead; the node's name."""
    node = slurm.job(job)["NodeList"]
    marks = (f"SLURM_JOB_ID={job}".encode(), f"SLURM_CONF={slurm.config}".encode())
    ours, keepers = set(), set()
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if set(marks) <= set((folder / "environ").read_bytes().split(b"\0")):
                ours.add(int(folder.name))
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                if Path(f"/proc/{parent}/comm").read_text().startswith("slurmstepd"):
                    keepers.add(int(parent))
    assert ours
    assert keepers
    for pid in [*keepers, *ours]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
    return node


def bring_back(slurm: SlurmCluster, node: str) -> None:
    """Let a node take jobs again, which Slurm does by itself once it has heard of it."""

    def takes_jobs() -> bool:
        state = slurm.run("sinfo", "--noheader", f"--nodes={node}", "--format=%t").strip()
        if state.startswith("down"):
            slurm.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        return state in ("idle", "mix", "alloc")

    wait_until(takes_jobs, 90, f"{node} takes jobs again")


def test_a_driver_that_lives_asks_for_the_next_job(drive: Drive, slurm: SlurmCluster) -> None:
    driver = drive(DRIVER.format(script=SURVIVOR))
    driver.result()
    (first,) = slurm.jobs()
    node = lose(slurm, first)
    try:
        told = driver.result(timeout=200)
        assert told["states"] == ["Completed"] * 2, f"{''.join(driver.lines)}{driver.logs()}"
        for trace in told["traces"]:
            assert trace[:2] == ["1", first]
            assert trace[2] == "2"
            assert trace[3] != first
        assert slurm.job(first)["JobState"] == "NODE_FAIL"
        assert driver.end() == 0
    finally:
        bring_back(slurm, node)


def test_without_a_driver_the_next_that_reconnects_asks_for_it(drive: Drive, slurm: SlurmCluster, valkey: str) -> None:
    driver = drive(DRIVER.format(script=SURVIVOR), TASKENSEMBLE_BROKER_URL=valkey)
    run_id = driver.result()["run"]
    driver.process.kill()
    driver.process.wait()
    (first,) = slurm.jobs()
    node = lose(slurm, first)
    try:
        wait_until(lambda: not slurm.jobs(), 60, "the job leaves the queue")
        store = Store(valkey)
        assert not store.status(run_id).state.final
        store.close()
        second = drive(
            f"""
            exp = Experiment("lost", launcher="slurm")
            handle = exp.reconnect({run_id!r})
            tell(told=True)
            handle.wait(timeout=600)
            """,
            TASKENSEMBLE_BROKER_URL=valkey,
        )
        second.result()
        wait_until(lambda: len(slurm.jobs()) == 1, 100, f"another job is asked for{''.join(second.lines)}")
        assert first not in slurm.jobs()
    finally:
        bring_back(slurm, node)
