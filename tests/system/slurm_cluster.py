"""A real Slurm of four nodes on this machine: munged, slurmctld and two slurmd, everything in one folder, as one user.

The nodes `n1` to `n4` are four slurmd on one host (`config_overrides` lets each claim CPUs of its own), so everything that
Slurm decides is real: queues, allocations, steps, walltimes, signals, preemption. What is not: two kernels, and the GPUs.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskensemble.guard import tie

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel", "squeue", "sinfo", "scontrol", "salloc")
NODES = ("n1", "n2", "n3", "n4")
CPUS = 4
GPUS = dict.fromkeys(("n3", "n4"), ("/dev/null", "/dev/zero"))
"""Other devices stand for them: Slurm counts them and says who has which."""
GRACE = 5
"""Seconds that jobs have which make room for those of the partition `urgent`."""


def missing_programs() -> list[str]:
    """What the fixture needs and PATH lacks."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return [program for program in PROGRAMS if shutil.which(program, path=path) is None]


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition, or fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


def stays(condition: Callable[[], bool], seconds: float) -> None:
    """Watch a condition that must hold for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition()
        time.sleep(0.2)


@dataclass
class SlurmCluster:
    """The cluster; `environment` is what a client of it needs."""

    folder: Path
    config: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str, timeout: float = 60, check: bool = True) -> str:
        """Run a command against the cluster; its standard output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False, cwd=self.folder
        )
        if check and done.returncode:
            raise AssertionError(f"{command} exited {done.returncode}: {done.stdout}{done.stderr}{self.logs()}")
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Id → state of the jobs that wait or run."""
        lines = self.run("squeue", "--noheader", "--format", "%i %T").split("\n")
        return dict(line.split() for line in lines if line.strip())  # type: ignore[misc]

    def job(self, job_id: str) -> dict[str, str]:
        """All that Slurm tells about a job, its end included."""
        text = self.run("scontrol", "--oneliner", "show", "job", job_id, check=False)
        return dict(pair.partition("=")[::2] for pair in text.split() if "=" in pair)  # type: ignore[misc]

    def drain(self, seconds: float = 60) -> None:
        """Cancel every job and wait until none is left."""
        for job_id in self.jobs():
            self.run("scancel", job_id, check=False)
        wait_until(lambda: not self.jobs(), seconds, "jobs leave the queue")

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            parts.append(f"\n== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:]))
        return "".join(parts)

    def stop(self) -> None:
        """End the daemons and every step that is left."""
        with contextlib.suppress(Exception):
            self.drain(30)
        end_processes(self.processes)


def end_processes(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """Ends daemons, those first that were started last."""
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in reversed(processes):
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def start_cluster(folder: Path) -> SlurmCluster:
    """Bring the cluster up in an empty folder with a short path; all nodes are idle when it returns."""
    user, host = getpass.getuser(), socket.gethostname().split(".")[0]
    control, *ports = free_ports(1 + len(NODES))
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    munge_socket = folder / "munge.socket"
    (folder / "gres.conf").write_text(
        "".join(f"NodeName={node} Name=gpu File={','.join(files)}\n" for node, files in GPUS.items())
    )
    config = folder / "slurm.conf"
    config.write_text(
        "\n".join(
            [
                "ClusterName=taskensemble",
                f"SlurmctldHost={host}(127.0.0.1)",
                f"SlurmctldPort={control}",
                f"SlurmUser={user}",
                f"SlurmdUser={user}",
                "AuthType=auth/munge",
                f"AuthInfo=socket={munge_socket}",
                "CredType=cred/munge",
                f"StateSaveLocation={folder}/state",
                f"SlurmdSpoolDir={folder}/spool-%n",
                f"SlurmctldPidFile={folder}/slurmctld.pid",
                f"SlurmdPidFile={folder}/slurmd-%n.pid",
                f"SlurmctldLogFile={folder}/slurmctld.log",
                f"SlurmdLogFile={folder}/slurmd-%n.log",
                "ProctrackType=proctrack/linuxproc",
                "TaskPlugin=task/none",
                "SelectType=select/cons_tres",
                "SelectTypeParameters=CR_Core",
                "SlurmdParameters=config_overrides",
                "SchedulerType=sched/backfill",
                "SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0",
                "AccountingStorageType=accounting_storage/none",
                "JobAcctGatherType=jobacct_gather/none",
                "MpiDefault=none",
                "ReturnToService=2",
                "KillWait=5",
                "OverTimeLimit=0",
                "JobRequeue=0",
                "InactiveLimit=0",
                "MinJobAge=600",
                "GresTypes=gpu",
                "PreemptType=preempt/partition_prio",
                "PreemptMode=CANCEL",
                *(
                    f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} Sockets=1 "
                    f"CoresPerSocket={CPUS} ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN"
                    + (f" Gres=gpu:{len(GPUS[node])}" if node in GPUS else "")
                    for node, port in zip(NODES, ports, strict=True)
                ),
                f"PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO GraceTime={GRACE}",
                "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10 PreemptMode=OFF",
                "",
            ]
        )
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    environment["PATH"] = f"{environment.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    environment["SLURM_CONF"] = str(config)
    cluster = SlurmCluster(folder, config, environment)
    try:
        _start(
            cluster,
            "munged",
            "--foreground",
            "--force",
            f"--socket={munge_socket}",
            f"--key-file={key}",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        wait_until(munge_socket.exists, 20, f"munged listens{cluster.logs()}")
        _start(cluster, "slurmctld", "-D", "-f", str(config))
        for node in NODES:
            _start(cluster, "slurmd", "-D", "-N", node, "-f", str(config))
        try:
            wait_until(lambda: _idle(cluster), 60, "all nodes are idle")
        except TimeoutError as error:
            raise TimeoutError(f"{error}{cluster.logs()}") from None
    except BaseException:
        cluster.stop()
        raise
    return cluster


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """A cluster for the time of a `with` block."""
    cluster = start_cluster(folder)
    try:
        yield cluster
    finally:
        cluster.stop()


def _start(cluster: SlurmCluster, program: str, *arguments: str) -> None:
    path = shutil.which(program, path=cluster.environment["PATH"])
    assert path is not None, f"{program} is not installed: tests/system/install.sh"
    with (cluster.folder / f"{program}-{len(cluster.processes)}.log").open("wb") as log:
        # Tied to the tests: whatever becomes of them, no daemon is left.
        process = tie([path, *arguments], env=cluster.environment, stdout=log, stderr=log, cwd=cluster.folder)
    cluster.processes.append(process)


def _idle(cluster: SlurmCluster) -> bool:
    for process in cluster.processes:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with {process.returncode}{cluster.logs()}")
    lines = cluster.run("sinfo", "--noheader", "--Node", "--format", "%N %t", check=False).split("\n")
    states = dict(line.split() for line in lines if line.strip())
    return {states.get(node) for node in NODES} == {"idle"}
