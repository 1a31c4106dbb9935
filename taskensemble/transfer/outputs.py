"""What a member leaves in its folder: sent by its worker when an attempt ends, written to the driver's disk once the member has.

The bytes of all files are one content, each file checked by its own SHA-256 when it is taken out. A retry on another host gets
what the attempt before it has sent, so checkpoints are there. The content is deleted when the driver has it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from taskensemble.engine.records import MemberRecord, OutputsRecord, RunRecord, State, TransferFileRecord
from taskensemble.errors import ParameterWriterError, TransferError
from taskensemble.generation import RECORD, generate_member, keep_outputs, member_folder
from taskensemble.transfer.contents import Contents, contents_of
from taskensemble.transfer.paths import below
from taskensemble.trees import walk

if TYPE_CHECKING:
    from taskensemble.engine.store import Store

logger = logging.getLogger("taskensemble")

Snapshot = Mapping[str, tuple[int, ...]]
"""What a folder holds, each path with what changes when it does."""


def snapshot(folder: Path) -> Snapshot:
    """What lies in a folder now."""
    found = {}
    for path in _paths(folder):
        status = os.lstat(folder / path)
        found[path] = (status.st_mode, 0, 0) if stat.S_ISDIR(status.st_mode) else (
            status.st_mode, status.st_size, status.st_mtime_ns,
        )  # fmt: skip
    return found


def send(store: Store, run: RunRecord, member: MemberRecord, attempt: int, folder: Path, before: Snapshot) -> str:
    """Send what an attempt has left in its folder.

    Arguments:
        run: as the worker has it, or the driver.
        before: the folder as it was made, without what the attempt before had left.

    Returns:
        Which file goes over the limit and was left behind, in words; empty: none.
    Raises:
        TransferError: the store of the run cannot be used.
    """
    assert run.transfer is not None
    entries: list[TransferFileRecord] = []
    parts: list[bytes] = []
    left, over = run.transfer.limit, ""
    now = snapshot(folder)
    streams = (f"{member.name}.out", f"{member.name}.err")
    for path in sorted(now, key=lambda path: (path not in streams, path)):
        if before.get(path) == now[path] or path == RECORD:
            continue
        entry = _entry(folder, path, left)
        if isinstance(entry, int):
            over = over or (
                f"its file {path} ({entry} bytes) goes over transfer_limit={run.transfer.limit} bytes of what a member sends "
                "back and was left behind; write less, or raise the limit"
            )
            continue
        record, data = entry
        entries.append(record)
        parts.append(data)
        left -= len(data)
    entries += [TransferFileRecord(path=path, kind="gone") for path in before if path not in now]
    outputs = OutputsRecord(attempt=attempt, content=f"{member.index}.{attempt}", entries=tuple(entries))
    contents_of(store, run).put(outputs.content, b"".join(parts))
    store.put_outputs(run.run_id, member.index, outputs, run.keep)
    return over


def restore(store: Store, run: RunRecord, member: MemberRecord, folder: Path) -> None:
    """Put back what the attempt before has sent, if one has.

    Raises:
        TransferError: it is damaged, or the store of the run cannot be used.
    """
    outputs = store.outputs(run.run_id, member.index).get(member.index)
    data = None if outputs is None else contents_of(store, run).get(outputs.content)
    if outputs is not None and data is not None:
        _write(folder, outputs.entries, data)


def collect(store: Store, run: RunRecord, index: int | None = None) -> list[int]:
    """Write the folders of members that have ended, as they would be on a shared file system.

    Arguments:
        index: of one member; None: of all.

    Returns:
        The members.
    Raises:
        TransferError: a file is not what the member's host has sent, or the store of the run cannot be used.
    """
    sent = store.outputs(run.run_id, index)
    if not sent:
        return []
    states = store.states(run.run_id)
    contents = contents_of(store, run)
    collected = []
    for number, outputs in sent.items():
        if states[number].final:
            member = store.members(run.run_id, number, number + 1)[0]
            _collect_member(contents, run, member, outputs)
            store.drop_outputs(run.run_id, number)
            contents.drop(outputs.content)
            collected.append(number)
    if all(state is State.COMPLETED for state in states):
        contents.drop_inputs()
    return collected


def _collect_member(contents: Contents, run: RunRecord, member: MemberRecord, outputs: OutputsRecord) -> None:
    data = contents.get(outputs.content)
    if data is None:
        raise TransferError(f"The outputs of {member.name} in {run.run_id} are no longer stored")
    entity, template = run.entities[member.entity], run.templates[member.template]
    try:
        folder = generate_member(run, entity, template, member, run.overwrite)
    except (OSError, ParameterWriterError) as error:
        # The member had its inputs, whatever became of them here meanwhile: what it has made counts.
        logger.warning("%s: its inputs cannot be put beside its outputs: %s", member.name, error)
        folder = member_folder(entity, member)
        folder.mkdir(parents=True, exist_ok=True)
    streams, others = _parted(member.name, outputs.entries)
    pieces = dict(_pieces(outputs.entries, data))
    _write_pieces(folder, others, pieces)
    for attempt in streams:
        # The streams of each attempt come after those of earlier runs that the folder has.
        keep_outputs(folder, member.name)
        _write_pieces(folder, attempt, pieces, plain=True)


def _parted(
    name: str, entries: tuple[TransferFileRecord, ...]
) -> tuple[list[list[TransferFileRecord]], list[TransferFileRecord]]:
    """The streams of each attempt, the latest last, and everything else."""
    stream = re.compile(rf"{re.escape(name)}\.(?:out|err)(?:\.(\d+))?")
    numbered: dict[float, list[TransferFileRecord]] = {}
    others = []
    for entry in entries:
        found = stream.fullmatch(entry.path)
        if found is None or entry.kind != "file":
            others.append(entry)
        else:
            numbered.setdefault(float(found[1] or "inf"), []).append(entry)
    return [numbered[number] for number in sorted(numbered)], others


def _write(folder: Path, entries: tuple[TransferFileRecord, ...], data: bytes) -> None:
    _write_pieces(folder, list(entries), dict(_pieces(entries, data)))


def _write_pieces(
    folder: Path, entries: list[TransferFileRecord], pieces: dict[str, bytes], *, plain: bool = False
) -> None:
    """Put entries into a folder; `plain` streams lose the number of their attempt. Links come last: none is written through."""
    for entry in sorted(entries, key=lambda entry: (entry.kind == "link", entry.kind != "gone")):
        name = re.sub(r"\.\d+$", "", entry.path) if plain else entry.path
        place = below(folder, name)
        if entry.kind == "folder":
            place.mkdir(parents=True, exist_ok=True)
            continue
        if place.is_symlink() or place.is_file():
            place.unlink()
        elif entry.kind == "gone" and place.is_dir():
            shutil.rmtree(place)
        if entry.kind == "link":
            place.symlink_to(entry.target)
        elif entry.kind == "file":
            place.parent.mkdir(parents=True, exist_ok=True)
            partial = place.with_name(f".{place.name}.{os.getpid()}")
            partial.unlink(missing_ok=True)  # a link of this name may have been sent before
            partial.write_bytes(pieces[entry.path])
            partial.chmod(entry.mode | 0o600)
            partial.replace(place)


def _pieces(entries: tuple[TransferFileRecord, ...], data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    for entry in entries:
        if entry.kind != "file":
            continue
        piece = data[at : at + entry.size]
        at += entry.size
        if hashlib.sha256(piece).hexdigest() != entry.digest:
            raise TransferError(
                f"{entry.path} is not what the member's host has sent: its SHA-256 is not {entry.digest}"
            )
        yield entry.path, piece


def _entry(folder: Path, path: str, left: int) -> tuple[TransferFileRecord, bytes] | int:
    """A path of the folder as it travels, with its bytes; its size, when that is more than is left."""
    place = folder / path
    status = os.lstat(place)
    if stat.S_ISLNK(status.st_mode):
        return TransferFileRecord(path=path, kind="link", target=os.readlink(place)), b""
    if stat.S_ISDIR(status.st_mode):
        return TransferFileRecord(path=path, kind="folder"), b""
    if status.st_size > left:
        return status.st_size
    data = place.read_bytes()
    if len(data) > left:
        return len(data)
    mode = stat.S_IMODE(status.st_mode) & 0o777
    return TransferFileRecord(path=path, size=len(data), digest=hashlib.sha256(data).hexdigest(), mode=mode), data


def _paths(folder: Path) -> Iterator[str]:
    """Everything below a folder but sockets and pipes, each folder before what is in it."""
    for parent, folders, names in walk(folder):
        folders.sort()
        for name in sorted((*folders, *names)):
            place = Path(parent, name)
            if place.is_symlink() or place.is_dir() or place.is_file():
                yield str(place.relative_to(folder))
