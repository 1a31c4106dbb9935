"""Which settings class a launcher and a run command ask for, "auto" included."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from taskensemble.checked import unknown_argument
from taskensemble.errors import InputError, InputTypeError, LauncherError, UnsupportedSettingsError
from taskensemble.settings.alps import AprunSettings
from taskensemble.settings.arguments import OptionValue
from taskensemble.settings.batch import BatchSettings
from taskensemble.settings.containers import Container
from taskensemble.settings.lsf import BsubBatchSettings, JsrunSettings
from taskensemble.settings.mpi import MpiexecSettings, MpirunSettings, OrterunSettings
from taskensemble.settings.pals import PalsMpiexecSettings
from taskensemble.settings.pbs import QsubBatchSettings
from taskensemble.settings.run import RunSettings
from taskensemble.settings.sge import SgeQsubBatchSettings
from taskensemble.settings.slurm import SbatchSettings, SrunSettings

logger = logging.getLogger(__name__)

LAUNCHERS = ("local", "slurm", "pbs", "pals", "lsf", "sge", "auto")

_BATCH: dict[str, type[BatchSettings]] = {
    "slurm": SbatchSettings,
    "pbs": QsubBatchSettings,
    "pals": QsubBatchSettings,
    "lsf": BsubBatchSettings,
    "sge": SgeQsubBatchSettings,
}
_RUN: dict[str, type[RunSettings]] = {
    "srun": SrunSettings,
    "mpirun": MpirunSettings,
    "mpiexec": MpiexecSettings,
    "orterun": OrterunSettings,
    "aprun": AprunSettings,
    "jsrun": JsrunSettings,
}
_PREFERRED = {
    "local": (),
    "slurm": ("srun", "mpirun", "mpiexec"),
    "pbs": ("aprun", "mpirun", "mpiexec"),
    "pals": ("mpiexec",),
    "lsf": ("jsrun", "mpirun", "mpiexec"),
    "sge": ("mpirun", "mpiexec"),
}
_MPI: tuple[type[RunSettings], ...] = (MpirunSettings, MpiexecSettings, OrterunSettings)
_SUPPORTED: dict[str, tuple[type, ...]] = {
    "slurm": (SrunSettings, SbatchSettings, *_MPI),
    "pbs": (AprunSettings, PalsMpiexecSettings, QsubBatchSettings, *_MPI),
    "pals": (AprunSettings, PalsMpiexecSettings, QsubBatchSettings, *_MPI),
    "lsf": (JsrunSettings, BsubBatchSettings, *_MPI),
    "sge": (SgeQsubBatchSettings, *_MPI),
}
"""Launcher -> the settings it can use, besides plain run settings. On one machine, whatever is installed may be used."""
_KNOWN = {known for supported in _SUPPORTED.values() for known in supported}
_COMMANDS_OF = {
    "lsf": ("bsub", "jsrun", "jslist", "bjobs", "bkill"),
    "slurm": ("sacct", "srun", "salloc", "sbatch", "scancel", "sstat", "sinfo"),
}


def detect_launcher() -> str:
    """The launcher of this machine: pbs, lsf, slurm, sge or local, by the commands on PATH."""
    if all(map(shutil.which, ("qsub", "qstat", "qdel"))):
        version = subprocess.run(["qsub", "--version"], capture_output=True, text=True, check=False)
        if "pbs" in (version.stdout + version.stderr).lower():
            return "pbs"
        if shutil.which("qconf"):
            return "sge"
    for launcher, commands in _COMMANDS_OF.items():
        if all(map(shutil.which, commands)):
            return launcher
    # Some sites have PBS's commands on the login nodes only.
    return "pbs" if "PBS_JOBID" in os.environ else "local"


def create_run_settings(
    launcher: str,
    exe: str,
    exe_args: str | list[str] | None = None,
    run_command: str | None = "auto",
    run_args: Mapping[str, OptionValue] | None = None,
    env_vars: Mapping[str, str | None] | None = None,
    container: Container | None = None,
    **further: Any,
) -> RunSettings:
    """Run settings of the class that the run command asks for.

    Parameters:
        launcher: local, slurm, pbs, pals, lsf, sge or auto.
        run_command: "auto": none on local, else the first found of the launcher's own; a command that we do not know, or None,
            gives the base class.
        exe, exe_args, run_args, env_vars, container: see `RunSettings`.

    Raises:
        InputTypeError: a misspelt argument. Those of another launcher's settings are ignored.
        LauncherError: "auto" found no run command.
    """
    launcher = detect_launcher() if launcher == "auto" else launcher.lower()
    command = run_command.lower() if run_command else ""
    if command == "auto":
        command = _detect_run_command(launcher)
    if command in _RUN:
        chosen = PalsMpiexecSettings if (launcher, command) == ("pals", "mpiexec") else _RUN[command]
        _check_further("create_run_settings", chosen, further)
        return chosen(exe, exe_args, run_args=run_args, env_vars=env_vars, container=container, **further)
    _check_further("create_run_settings", RunSettings, further)
    # A path keeps its upper-case letters.
    given = "" if command == "" else str(run_command)
    return RunSettings(exe, exe_args, given, run_args, env_vars, container=container)


def create_batch_settings(
    launcher: str,
    nodes: int | None = None,
    time: str = "",
    queue: str | None = None,
    account: str | None = None,
    batch_args: Mapping[str, str | None] | None = None,
    **further: Any,
) -> BatchSettings:
    """Batch settings of the launcher's class; those of another launcher's are ignored.

    Raises:
        InputTypeError: a misspelt argument.
        LauncherError: the launcher has no batch jobs, or is unknown.
    """
    launcher = detect_launcher() if launcher == "auto" else launcher.lower()
    if launcher == "local":
        raise LauncherError("launcher='local' does not support batch workloads; use slurm, pbs, pals, lsf or sge")
    if launcher not in _BATCH:
        raise LauncherError(f"launcher={launcher!r} is unsupported for batch settings; use one of {', '.join(_BATCH)}")
    chosen = _BATCH[launcher]
    _check_further("create_batch_settings", chosen, further)
    return chosen(nodes=nodes, time=time, queue=queue, account=account, batch_args=batch_args, **further)


def _arguments(settings: type) -> list[str]:
    parameters = list(inspect.signature(settings).parameters.values())
    named = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    return [*named, *(name for name in getattr(settings, "common", ()) if name not in named)]


def _check_further(factory: str, chosen: type, further: Mapping[str, Any]) -> None:
    """Refuse a misspelt argument; say what else is ignored. Portable drivers give arguments that only some settings take."""
    known = _arguments(chosen)
    for name in further:
        if name in known or any(name in _arguments(other) for other in _KNOWN):
            continue
        if difflib.get_close_matches(name, known, 1):
            raise InputTypeError(f"{factory}: {unknown_argument(name, known)}")
        logger.warning("%s: %s has no argument %r; it is ignored.", factory, chosen.__name__, name)


def check_supported(launcher: str, settings: RunSettings | BatchSettings, owner: str) -> None:
    """Refuse settings of another scheduler's, and batch settings where there is none.

    Raises:
        UnsupportedSettingsError: the launcher cannot use them; the message names their owner.
    """
    if launcher == "local" and isinstance(settings, BatchSettings):
        raise UnsupportedSettingsError(
            f"batch_settings={type(settings).__name__} of {owner!r}: launcher='local' runs members on this machine and submits "
            f"no jobs; leave batch_settings out, or give Experiment(launcher={settings.scheduler!r})"
        )
    supported = _SUPPORTED.get(launcher)
    # A user's own class counts as the one of ours that it comes from.
    known = next((each for each in type(settings).__mro__ if each in _KNOWN), None)
    if supported is None or known is None or known in supported:
        return
    kind, factory = (
        ("batch_settings", "create_batch_settings")
        if isinstance(settings, BatchSettings)
        else ("run_settings", "create_run_settings")
    )
    raise UnsupportedSettingsError(
        f"{kind}={type(settings).__name__} of {owner!r} is not supported by launcher={launcher!r}, which takes "
        f"{', '.join(each.__name__ for each in supported)}; make it with Experiment.{factory}"
    )


def _detect_run_command(launcher: str) -> str:
    if launcher not in _PREFERRED:
        raise InputError(f"launcher={launcher!r} is unknown; use one of {', '.join(LAUNCHERS)}")
    if not _PREFERRED[launcher]:
        return ""
    for command in _PREFERRED[launcher]:
        if shutil.which(command):
            return command
    raise LauncherError(
        f"run_command='auto': could not detect a run command for launcher {launcher}; searched for and could not find "
        f"{', '.join(_PREFERRED[launcher])}. Load its module, or give run_command="
    )
