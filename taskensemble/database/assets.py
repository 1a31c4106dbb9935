"""ML assets onto a database: every model and script on every device and every shard, each one verified.

The names are those that SmartRedis looks for: `name` on the first device, `name.GPU:i` for each of several; on a cluster
`{tag}.name` on each shard, where the tag hashes to the shard.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import NamedTuple

from taskensemble.ai.resp import Argument, ReplyError
from taskensemble.ai.topology import shard_tag
from taskensemble.engine.records import AssetRecord, DatabaseAddressRecord
from taskensemble.errors import AssetError

from .connection import Administration, Refused, connected, login, text

_LOAD_WITHIN = 600.0
"""Seconds: a first load starts an inference worker, which imports its backend."""
_ANSWER_WITHIN = 30.0
_CHUNK = 511 * 1024 * 1024
_HANDED_OVER_FROM = 1024 * 1024
"""Bytes of a model from which on a server of this host gets it through memory, not its socket."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_NOT_OPENED = "cannot open this MEMORY"
"""What a server answers that runs in another process namespace, or as another user."""
_EXTRAS = {"TORCH": "torch", "TF": "tensorflow", "TFLITE": "litert", "ONNX": "onnx"}


class Copy(NamedTuple):
    """One copy of an asset: its key and its device."""

    key: bytes
    device: str


def copies(asset: AssetRecord, tag: bytes = b"") -> list[Copy]:
    """The copies of an asset on one server.

    Arguments:
        tag: hash tag of a cluster's shard; empty: the server is no shard.
    """
    prefix = b"{" + tag + b"}." if tag else b""
    name = prefix + asset.name.encode()
    if asset.devices_per_node <= 1:
        device = f"GPU:{asset.first_device}" if asset.device == "GPU" and asset.first_device else asset.device
        return [Copy(name, device)]
    devices = [f"GPU:{asset.first_device + index}" for index in range(asset.devices_per_node)]
    return [Copy(name, devices[0]), *(Copy(name + b"." + device.encode(), device) for device in devices)]


def load_assets(
    record: DatabaseAddressRecord, assets: Sequence[AssetRecord], content: Callable[[AssetRecord], bytes]
) -> None:
    """Load assets into a database and verify each copy. Assets of different backends are loaded at the same time, and so are the
    copies of an asset on several shards: its bytes are read once.

    Arguments:
        record: the running database; every shard gets every asset.
        content: the bytes of an asset; they are checked against its digest before they are stored.
    Raises:
        AssetError: one has changed, or the database refused it; the text names it and is the server's.
    """
    tagged = server_tags(record)
    by_backend = sorted(assets, key=lambda asset: asset.backend)
    groups = [list(group) for _, group in groupby(by_backend, key=lambda asset: asset.backend)]

    def load(group: list[AssetRecord]) -> None:
        with ThreadPoolExecutor(max_workers=max(1, len(tagged))) as shards:
            for asset in group:
                blob = content(asset)
                checked = shards.submit(_check, asset, blob)
                with _handed_over(record, asset, blob) as memory:
                    checked.result()
                    for done in [
                        shards.submit(_load, record, address, tag, asset, blob, memory) for address, tag in tagged
                    ]:
                        done.result()

    with ThreadPoolExecutor(max_workers=max(1, len(groups))) as pool:
        for done in [pool.submit(load, group) for group in groups]:
            done.result()


def restore_assets(
    record: DatabaseAddressRecord, assets: Sequence[AssetRecord], content: Callable[[AssetRecord], bytes]
) -> int:
    """Load again what a database, or one of its shards, has lost since `load_assets`: it was restarted without its dump.

    Returns:
        How many assets were loaded, each server counted.
    Raises:
        AssetError: the database does not answer, or refuses one.
    """
    loaded = 0
    for address, tag in server_tags(record):
        for asset in assets:
            if not _holds(record, address, tag, asset):
                blob = content(asset)
                _check(asset, blob)
                _load(record, address, tag, asset, blob)
                loaded += 1
    return loaded


def _holds(record: DatabaseAddressRecord, address: str, tag: bytes, asset: AssetRecord) -> bool:
    """Whether a server has all copies of an asset."""
    try:
        with connected(address, login(record), timeout=_ANSWER_WITHIN) as client:
            for copy in copies(asset, tag):
                try:
                    _verify(client, asset, copy, asset.size)
                except ReplyError:
                    return False
    except Refused as error:
        raise AssetError(f"the database {record.identifier or address} does not answer: {error}") from error
    return True


def server_tags(record: DatabaseAddressRecord) -> list[tuple[str, bytes]]:
    """Each server's address with the hash tag of its lowest slot range; an empty tag without a cluster."""
    if not record.cluster:
        return [(address, b"") for address in record.addresses]
    tags = []
    try:
        for address in record.addresses:
            with connected(address, login(record)) as client:
                myself = next(line for line in text(client.ask("CLUSTER", "NODES")).splitlines() if "myself" in line)
            ranges = [part for part in myself.split()[8:] if not part.startswith("[")]
            if not ranges:
                continue
            tags.append((address, shard_tag(min(int(part.partition("-")[0]) for part in ranges))))
    except Refused as error:
        raise AssetError(f"database {record.identifier}: the cluster does not answer: {error}") from error
    return tags


def _check(asset: AssetRecord, blob: bytes) -> None:
    if hashlib.sha256(blob).hexdigest() != asset.digest:
        where = asset.path or "the record store"
        raise AssetError(f"{asset.kind} {asset.name!r} in {where} has changed since the start; start the run again")


@contextlib.contextmanager
def _handed_over(record: DatabaseAddressRecord, asset: AssetRecord, blob: bytes) -> Iterator[int]:
    """The descriptor of sealed memory with a model's bytes, from which servers of this host take it; -1: none would.

    The memory's name is the hash that is checked before anything is stored. By it servers know that they open the right
    memory, and their inference workers which model they have loaded already.
    """
    here = record.host == socket.gethostname() and not record.external
    if not here or asset.kind != "model" or len(blob) < _HANDED_OVER_FROM:
        yield -1
        return
    descriptor = os.memfd_create(f"taskensemble-{asset.digest}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        rest = memoryview(blob)
        while rest:
            rest = rest[file.write(rest) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        yield descriptor


def _load(
    record: DatabaseAddressRecord, address: str, tag: bytes, asset: AssetRecord, blob: bytes, memory: int = -1
) -> None:
    for copy in copies(asset, tag):
        try:
            with connected(address, login(record), timeout=_LOAD_WITHIN) as client:
                _store(client, asset, copy, blob, memory)
                _verify(client, asset, copy, len(blob))
        except Refused as error:
            raise AssetError(_refusal(record, address, asset, copy, error)) from error


def _store(client: Administration, asset: AssetRecord, copy: Copy, blob: bytes, memory: int) -> None:
    if memory >= 0:
        try:
            client.ask(*_store_command(asset, copy, ["MEMORY", os.getpid(), memory, asset.digest]))
        except ReplyError as error:
            if _NOT_OPENED not in str(error):
                raise
        else:
            return
    client.ask(*_store_command(asset, copy, ["BLOB", *_chunks(blob)]))


def _chunks(blob: bytes) -> list[memoryview]:
    view = memoryview(blob)
    return [view[start : start + _CHUNK] for start in range(0, max(1, len(blob)), _CHUNK)]


def _store_command(asset: AssetRecord, copy: Copy, content: list[Argument]) -> list[Argument]:
    tag: list[Argument] = ["TAG", asset.tag] if asset.tag else []
    if asset.kind == "script":
        return ["AI.SCRIPTSET", copy.key, copy.device, *tag, "SOURCE", *content[1:]]
    words: list[Argument] = ["AI.MODELSTORE", copy.key, asset.backend, copy.device, *tag]
    if asset.batch_size:
        words += ["BATCHSIZE", asset.batch_size]
    if asset.min_batch_size:
        words += ["MINBATCHSIZE", asset.min_batch_size]
    if asset.min_batch_timeout:
        words += ["MINBATCHTIMEOUT", asset.min_batch_timeout]
    if asset.backend == "TF":
        words += ["INPUTS", len(asset.inputs), *asset.inputs, "OUTPUTS", len(asset.outputs), *asset.outputs]
    return [*words, *content]


def _verify(client: Administration, asset: AssetRecord, copy: Copy, size: int) -> None:
    """Read back what the server says it holds: kind, backend, device, and the length of what was sent."""
    if asset.kind == "script":
        reply = client.ask("AI.SCRIPTGET", copy.key, "META", "SOURCE")
    else:
        reply = client.ask("AI.MODELGET", copy.key, "META")
    words = list(reply)
    facts = {text(key): value for key, value in zip(words[::2], words[1::2], strict=False)}
    stored = text(facts.get("device", b"")).upper()
    if stored.removesuffix(":0") != copy.device.upper().removesuffix(":0"):
        raise ReplyError(f"it was stored for {copy.device}, but the database holds it for {stored or 'nothing'}")
    if asset.kind == "model" and text(facts.get("backend", b"")).upper() != asset.backend:
        raise ReplyError(f"it was stored for {asset.backend}, but the database holds {facts.get('backend')!r}")
    if asset.kind == "script" and len(facts.get("source", b"")) != size:
        raise ReplyError(f"{size} bytes were stored, but the database holds {len(facts.get('source', b''))}")


def _refusal(record: DatabaseAddressRecord, address: str, asset: AssetRecord, copy: Copy, error: Exception) -> str:
    what = f"{'script' if asset.kind == 'script' else asset.backend + ' model'} {asset.name!r} on {copy.device}"
    text = f"{what} was refused by the database {record.identifier or 'at ' + address}: {error}"
    if "Could not load backend" in str(error):
        extra = _EXTRAS[asset.backend]
        text += f" (where the database runs, is it installed? `pip install 'taskensemble[{extra}]'`; its log says more)"
    return text
