"""A worker's own folder: members' folders and their inputs, as they would lie on a file system that it shared with the driver.

    <scratch>/te-worker.<host>.<worker>.<pid>/<run>/inputs/<n>/<name>   the n-th input of the run
    <scratch>/te-worker.<host>.<worker>.<pid>/<run>/<entity>/<name>     the entity's folder

A run's records are rewritten to these paths once; everything else a worker does is the same as with a shared file system.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from taskensemble.engine.records import FilesRecord, InputRecord, MemberRecord, RunRecord, TransferFileRecord
from taskensemble.errors import TransferError
from taskensemble.transfer.contents import Contents
from taskensemble.transfer.paths import below

VARIABLE = "TASKENSEMBLE_SCRATCH"
"""Where workers put members' folders when hosts share no file system; unset: a folder of the user's below the temporary one."""


_OURS = "te-worker"
"""How the names of workers' folders begin. The folder may be one of the user's, with other things in it."""


def _host() -> str:
    """Where pids are told apart: nodes may share the folder."""
    return socket.gethostname()


class Scratch:
    """The folder of one worker process; it goes with the process."""

    def __init__(self, worker: str) -> None:
        given = os.environ.get(VARIABLE)
        self._root = Path(given) if given else Path(tempfile.gettempdir(), f"taskensemble-{os.getuid()}-scratch")
        self._folder = self._root / f"{_OURS}.{_host()}.{quote(worker, safe='')}.{os.getpid()}"
        self._lock = threading.Lock()
        self._fetched: set[tuple[str, int]] = set()
        self._origins: dict[str, str] = {}
        self._used = False

    def localized(self, run: RunRecord) -> RunRecord:
        """The run with the paths that it has here."""
        assert run.transfer is not None
        places = {
            entry.source: str(self._input(run.run_id, number, entry))
            for number, entry in enumerate(run.transfer.inputs)
        }
        entities = []
        for entity in run.entities:
            folder = str(self._folder / run.run_id / str(entity.index) / Path(entity.path).name)
            self._origins[folder] = entity.path
            entities.append(entity.model_copy(update={"path": folder, "generated": False}))
        return run.model_copy(
            update={
                "generate": True,
                "overwrite": False,
                "entities": tuple(entities),
                "templates": tuple(
                    template.model_copy(update={"files": _moved(template.files, places)}) for template in run.templates
                ),
            }
        )

    def localized_member(self, run: RunRecord, member: MemberRecord) -> MemberRecord:
        """A member with the folder that it has here, if the user chose one for it."""
        if member.path is None:
            return member
        entity = run.entities[member.entity]
        folder = str(self._folder / run.run_id / f"{entity.index}.{member.index}" / Path(member.path).name)
        self._origins[folder] = member.path
        return member.model_copy(update={"path": folder})

    def as_the_driver_sees(self, text: str, folder: Path) -> str:
        """A text about a member with the driver's path of its folder, which is `folder` here."""
        origin = self._origins.get(str(folder))
        if origin is None and str(folder.parent) in self._origins:
            origin = f"{self._origins[str(folder.parent)]}/{folder.name}"
        return text if origin is None else text.replace(str(folder), origin)

    def fetch(self, run: RunRecord, files: FilesRecord, contents: Callable[[], Contents]) -> None:
        """Bring a template's inputs here, unless they are; `files` has the paths of this host.

        Raises:
            TransferError: one is no longer stored, or is not what the driver sent.
        """
        assert run.transfer is not None
        needed = {*files.copy_, *files.symlink, *files.configure}
        with self._lock:
            self._prepare_root()
            for number, entry in enumerate(run.transfer.inputs):
                place = self._input(run.run_id, number, entry)
                if str(place) in needed and (run.run_id, number) not in self._fetched:
                    _write_input(entry, place, contents())
                    self._fetched.add((run.run_id, number))

    def drop_member(self, folder: Path) -> None:
        """A member's folder has been sent back."""
        shutil.rmtree(folder, ignore_errors=True)

    def drop_runs(self, active: set[str]) -> None:
        """Delete what belongs to other runs than these."""
        with self._lock:
            for run_id in {run_id for run_id, _ in self._fetched} - active:
                shutil.rmtree(self._folder / run_id, ignore_errors=True)
            self._fetched = {key for key in self._fetched if key[0] in active}
            ours = tuple(f"{self._folder / run_id}/" for run_id in active)
            self._origins = {folder: origin for folder, origin in self._origins.items() if folder.startswith(ours)}

    def close(self) -> None:
        """Delete the worker's folder."""
        if self._used:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare_root(self) -> None:
        if self._used:
            return
        self._used = True
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Below the temporary folder anybody may have laid a link here; the one that a user names may be one.
        if (self._root.stat() if os.environ.get(VARIABLE) else self._root.lstat()).st_uid != os.getuid():
            raise TransferError(f"{self._root} belongs to another user; set {VARIABLE} to a folder of your own")
        for other in self._root.glob(f"{_OURS}.{glob.escape(_host())}.*"):
            # A worker of this host that was killed has left its folder.
            pid = other.name.rpartition(".")[2]
            if pid.isdecimal() and not Path("/proc", pid).exists():
                shutil.rmtree(other, ignore_errors=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _input(self, run_id: str, number: int, entry: InputRecord) -> Path:
        return self._folder / run_id / "inputs" / str(number) / Path(entry.source).name


def _moved(files: FilesRecord, places: dict[str, str]) -> FilesRecord:
    return files.model_copy(
        update={
            name: tuple(places[source] for source in getattr(files, name)) for name in ("copy_", "symlink", "configure")
        }
    )


def _write_input(entry: InputRecord, place: Path, contents: Contents) -> None:
    if not entry.folder:
        place.parent.mkdir(parents=True, exist_ok=True)
        _write_file(entry.files[0], place, contents, entry.source)
        return
    place.mkdir(parents=True, exist_ok=True)
    for folder in entry.folders:
        below(place, folder).mkdir(exist_ok=True)
    for file in entry.files:
        _write_file(file, below(place, file.path), contents, entry.source)


def _write_file(file: TransferFileRecord, target: Path, contents: Contents, source: str) -> None:
    data = contents.input(file.digest)
    if data is None:
        raise TransferError(f"{source} ({file.path}) is no longer stored: start the run again from its driver")
    if hashlib.sha256(data).hexdigest() != file.digest:
        raise TransferError(f"{source} ({file.path}) is not what the driver sent: its SHA-256 is not {file.digest}")
    with suppress(FileNotFoundError):
        target.unlink()
    target.write_bytes(data)
    target.chmod(file.mode | 0o400)
