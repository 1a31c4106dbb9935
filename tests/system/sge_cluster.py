"""A real Grid Engine of one node on this machine: sge_qmaster and sge_execd of Debian's 8.1.9, all in one folder, as one user.

The programs come from Debian's packages, unpacked and not installed (install.sh): installed, their `qsub` and `qstat` would be
what `launcher="auto"` finds on this machine. Queue, parallel environment, submission, signals and states are real; there is one
node.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from taskensemble.guard import tie
from tests.system.slurm_cluster import end_processes, free_ports, wait_until

PROGRAMS = Path("/usr/lib/gridengine")
"""Where the programs look for their own libraries."""
SHARED = PROGRAMS.resolve().parents[1] / "share" / "gridengine"
CLIENTS = ("qsub", "qstat", "qdel", "qconf", "qhost", "qmod")
SLOTS = 4


def missing() -> str:
    """Why the fixture cannot run here; empty: it can."""
    if not (PROGRAMS / "sge_qmaster").exists():
        return "Grid Engine is not there; run tests/system/install.sh"
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        return f"Grid Engine needs a host whose name it can look up, and {socket.gethostname()} is none"
    return ""


@dataclass
class GridEngine:
    """The cluster; `environment` is what a client of it needs."""

    folder: Path
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
        """Id → state letters of the jobs that wait or run."""
        root = ElementTree.fromstring(self.run("qstat", "-xml", "-u", "*"))
        return {job.findtext("JB_job_number", ""): job.findtext("state", "") for job in root.iter("job_list")}

    def drain(self, seconds: float = 60) -> None:
        """Cancel every job and wait until none is left."""
        for job_id in self.jobs():
            self.run("qdel", job_id, check=False)
        wait_until(lambda: not self.jobs(), seconds, f"jobs leave the queue{self.logs()}")

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        found = [*sorted(self.folder.glob("*.log")), *sorted(self.folder.glob("spool/*/messages"))]
        found += sorted(self.folder.glob("spool/execd/*/messages"))
        return "".join(
            f"\n== {path}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:]) for path in found
        )

    def stop(self) -> None:
        """End every job and the daemons."""
        with contextlib.suppress(Exception):
            self.drain(30)
        end_processes(self.processes)


def start_grid_engine(folder: Path) -> GridEngine:
    """Bring the cluster up in an empty folder with a short path; its node takes jobs when it returns."""
    host = socket.gethostname()
    common, spool = folder / "default" / "common", folder / "spool"
    for path in (common / "local_conf", spool / "qmaster" / "job_scripts", spool / "execd", folder / "bin"):
        path.mkdir(parents=True)
    (folder / "util").symlink_to(SHARED / "util")
    for name in CLIENTS:
        (folder / "bin" / name).symlink_to(PROGRAMS / name)
    spooling = f"{common};{spool / 'qmaster'}"
    _write(
        common / "bootstrap",
        admin_user="none",
        default_domain="none",
        ignore_fqdn="true",
        spooling_method="classic",
        spooling_lib="libspoolc",
        spooling_params=spooling,
        binary_path=str(PROGRAMS),
        qmaster_spool_dir=str(spool / "qmaster"),
        security_mode="none",
        listener_threads="2",
        worker_threads="2",
        scheduler_threads="1",
    )
    (common / "act_qmaster").write_text(f"{host}\n")
    # What the address of the host is called first may be another of its names; Grid Engine compares names.
    (common / "host_aliases").write_text(f"{host} {' '.join(sorted(_names(host) - {host}))}\n")
    ports = free_ports(2)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SGE_")}
    environment |= {
        "PATH": f"{folder / 'bin'}:{environment.get('PATH', '')}",
        "SGE_ROOT": str(folder),
        "SGE_CELL": "default",
        "SGE_ARCH": subprocess.check_output([str(SHARED / "util" / "arch")], text=True).strip(),
        "SGE_QMASTER_PORT": str(ports[0]),
        "SGE_EXECD_PORT": str(ports[1]),
    }
    grid = GridEngine(folder, environment)
    try:
        _initialise(grid, spooling)
        _start(grid, "sge_qmaster")
        wait_until(lambda: _answers(grid), 60, "the master answers")
        _configure(grid, host)
        _start(grid, "sge_execd")
        wait_until(lambda: _takes_jobs(grid), 60, "the node takes jobs")
    except BaseException as error:
        error.add_note(grid.logs())
        grid.stop()
        raise
    return grid


@contextlib.contextmanager
def running_grid_engine(folder: Path) -> Iterator[GridEngine]:
    """A cluster for the time of a `with` block."""
    grid = start_grid_engine(folder)
    try:
        yield grid
    finally:
        grid.stop()


def _initialise(grid: GridEngine, spooling: str) -> None:
    """What the packages' own installation does, with the differences that a cluster of tests wants."""
    changed = {
        "execd_spool_dir": str(grid.folder / "spool" / "execd"),
        "mailer": "/bin/true",
        "min_uid": "0",
        "min_gid": "0",
        "load_report_time": "00:00:02",
    }
    lines = []
    for line in (SHARED / "default-configuration").read_text().splitlines():
        name = line.split()[0] if line.split() else ""
        lines.append(f"{name} {changed[name]}" if name in changed else line)
    configuration = grid.folder / "configuration"
    configuration.write_text("\n".join([*lines, ""]))
    resources = SHARED / "util" / "resources"
    grid.run(str(PROGRAMS / "spoolinit"), "classic", "libspoolc", spooling, "init")
    for what, value in (
        ("configuration", str(configuration)),
        ("complexes", str(resources / "centry")),
        ("usersets", str(resources / "usersets")),
        ("managers", getpass.getuser()),
    ):
        grid.run(str(PROGRAMS / "spooldefaults"), what, value)


def _configure(grid: GridEngine, host: str) -> None:
    """One node, one parallel environment, one queue, and a scheduler that looks every second."""
    none = "NONE"
    node = _write(
        grid.folder / "node",
        hostname=host,
        **dict.fromkeys(("load_scaling", "complex_values", "user_lists", "xuser_lists", "projects", "xprojects"), none),
        **dict.fromkeys(("usage_scaling", "report_variables"), none),
    )
    limits = [
        f"{kind}_{what}" for what in ["rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem"] for kind in "sh"
    ]
    queue = _write(
        grid.folder / "queue",
        qname="all.q",
        hostlist=host,
        seq_no="0",
        nsuspend="1",
        suspend_interval="00:05:00",
        priority="0",
        min_cpu_interval="00:05:00",
        processors="UNDEFINED",
        qtype="BATCH INTERACTIVE",
        pe_list="smp",
        rerun="FALSE",
        slots=str(SLOTS),
        tmpdir="/tmp",
        shell="/bin/sh",
        shell_start_mode="unix_behavior",
        notify="00:00:20",
        calendar=none,
        initial_state="default",
        **dict.fromkeys(
            ["load_thresholds", "suspend_thresholds", "ckpt_list", "prolog", "epilog", "starter_method"], none
        ),
        **dict.fromkeys(["suspend_method", "resume_method", "terminate_method", "owner_list", "user_lists"], none),
        **dict.fromkeys(["xuser_lists", "subordinate_list", "complex_values", "projects", "xprojects"], none),
        **dict.fromkeys(limits, "INFINITY"),
    )
    scheduler = grid.folder / "scheduler"
    quick = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
    rows = (line.partition(" ")[::2] for line in grid.run("qconf", "-ssconf").splitlines())
    # What a job is expected to add to the load would keep the next one waiting.
    changed = {**dict(rows), **quick, "job_load_adjustments": none}
    _write(scheduler, **changed)
    grid.run("qconf", "-Msconf", str(scheduler))
    grid.run("qconf", "-as", host)
    grid.run("qconf", "-Ae", str(node))
    grid.run("qconf", "-Ap", str(SHARED / "util" / "resources" / "pe" / "smp"))
    grid.run("qconf", "-Aq", str(queue))


def _names(host: str) -> set[str]:
    name, aliases, addresses = socket.gethostbyname_ex(host)
    found = {name, *aliases, "localhost"}
    for address in addresses:
        with contextlib.suppress(OSError):
            name, aliases, _ = socket.gethostbyaddr(address)
            found |= {name, *aliases}
    return found


def _write(path: Path, **rows: str) -> Path:
    path.write_text("".join(f"{name} {value}\n" for name, value in rows.items()))
    return path


def _start(grid: GridEngine, program: str) -> None:
    with (grid.folder / f"{program}.log").open("wb") as log:
        # Tied to the tests: whatever becomes of them, no daemon is left. SGE_ND: it stays in the foreground.
        environment = {**grid.environment, "SGE_ND": "true"}
        process = tie([str(PROGRAMS / program)], env=environment, stdout=log, stderr=log, cwd=grid.folder)
    grid.processes.append(process)


def _alive(grid: GridEngine) -> None:
    for process in grid.processes:
        if process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with {process.returncode}{grid.logs()}")


def _answers(grid: GridEngine) -> bool:
    _alive(grid)
    return "global" in grid.run("qconf", "-sconf", check=False)


def _takes_jobs(grid: GridEngine) -> bool:
    """Whether the queue's one instance has no state letters: it is neither unreachable nor in alarm."""
    _alive(grid)
    root = ElementTree.fromstring(grid.run("qstat", "-f", "-xml"))
    instances = list(root.iter("Queue-List"))
    return bool(instances) and all(not instance.findtext("state", "").strip() for instance in instances)
