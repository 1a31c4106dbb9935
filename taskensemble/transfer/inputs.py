"""The driver's side of a start: what a run's members need, read and hashed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskensemble.engine.records import (
    AssetRecord,
    InputRecord,
    RunRecord,
    TransferFileRecord,
    TransferRecord,
)
from taskensemble.errors import InputError, TransferError
from taskensemble.transfer.contents import contents_of
from taskensemble.trees import walk

if TYPE_CHECKING:
    from taskensemble.engine.store import Store


@dataclass(frozen=True)
class Packed:
    """A run that is ready to travel.

    Attributes:
        run: it names its inputs by their content.
        inputs: SHA-256 -> bytes of what members read.
        assets: the same of ML assets that were files on the driver's machine.
    """

    run: RunRecord
    inputs: Mapping[str, bytes]
    assets: Mapping[str, bytes]


def pack(run: RunRecord, limit: int, url: str = "") -> Packed:
    """Read what a run's members need.

    Arguments:
        limit: most bytes of all inputs together, of all ML assets, and of what each member sends back.
        url: store of the bytes, as fsspec names it; empty: the record store.

    Raises:
        InputError: the inputs are larger; the message names the file that goes over.
        FileNotFoundError: a file is no longer there.
    """
    reader, models = _Reader(limit), _Reader(limit)
    sources: dict[str, InputRecord] = {}
    for template in run.templates:
        for source in (*template.files.copy_, *template.files.symlink, *template.files.configure):
            if source not in sources:
                sources[source] = _input(source, reader)
    templates = tuple(
        template.model_copy(update={"assets": tuple(_asset(asset, models) for asset in template.assets)})
        for template in run.templates
    )
    transfer = TransferRecord(limit=limit, url=url, inputs=tuple(sources.values()))
    travelling = run.model_copy(update={"transfer": transfer, "templates": templates})
    return Packed(travelling, reader.contents, models.contents)


def store_inputs(store: Store, packed: Packed) -> Mapping[str, bytes]:
    """Put the inputs where the run keeps its files; what is to be written with the run's record is returned.

    Raises:
        UnsupportedError, TransferError: the run's store cannot be used.
    """
    return {**packed.assets, **contents_of(store, packed.run).put_inputs(packed.inputs)}


def repack(store: Store, old: RunRecord, new: RunRecord) -> Mapping[str, bytes]:
    """The inputs of a run for another one of the same records; returns as `store_inputs`.

    Raises:
        TransferError: one is no longer stored.
    """
    assert old.transfer is not None
    kept = contents_of(store, old)
    found: dict[str, bytes] = {}
    for entry in old.transfer.inputs:
        for file in entry.files:
            data = kept.input(file.digest)
            if data is None:
                raise TransferError(
                    f"{entry.source} is no longer stored for {old.run_id}: start the ensemble again from its driver"
                )
            found[file.digest] = data
    return contents_of(store, new).put_inputs(found)


class _Reader:
    def __init__(self, limit: int) -> None:
        self.contents: dict[str, bytes] = {}
        self._limit = limit
        self._left = limit

    def read(self, path: str) -> bytes:
        size = os.path.getsize(path)
        data = Path(path).read_bytes() if size <= self._left else b""
        if max(size, len(data)) > self._left:
            raise InputError(
                f"{path} has {size} bytes: the inputs of this start go over transfer_limit={self._limit} bytes with it; give "
                "Experiment(transfer_limit=…) a larger one, or put the file on every host and attach it there"
            )
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self.contents:
            self.contents[digest] = data
            self._left -= len(data)
        return data


def _input(source: str, reader: _Reader) -> InputRecord:
    if not os.path.isdir(source):
        return InputRecord(source=source, files=(_file(source, os.path.basename(source), reader),))
    files, folders = [], []
    for path, below in _walk(source):
        if os.path.isdir(path):
            folders.append(below)
        else:
            files.append(_file(path, below, reader))
    return InputRecord(source=source, folder=True, files=tuple(files), folders=tuple(folders))


def _walk(source: str) -> Iterator[tuple[str, str]]:
    """Everything below a folder, each folder before what is in it. Links are followed, as copying would."""
    for folder, folders, names in walk(source, follow_links=True):
        folders.sort()
        for name in sorted((*folders, *names)):
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, source)


def _file(path: str, below: str, reader: _Reader) -> TransferFileRecord:
    data = reader.read(path)
    mode = os.stat(path).st_mode & 0o777
    return TransferFileRecord(path=below, size=len(data), digest=hashlib.sha256(data).hexdigest(), mode=mode)


def _asset(asset: AssetRecord, reader: _Reader) -> AssetRecord:
    if asset.path is None:
        return asset
    reader.read(asset.path)
    return asset.model_copy(update={"path": None})
