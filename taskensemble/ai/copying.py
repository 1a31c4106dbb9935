"""Copy what one database holds into another, through the protocol alone: `python -m taskensemble.ai.copying OLD NEW`.

The source may be a RedisAI server, whose RDB files our module does not read, or one of ours; either may be a cluster.
Tensors, models and scripts are stored anew, so that each model is loaded and checked; other keys travel by DUMP and RESTORE.
Times to live are kept. The source is only read. Keys that change meanwhile may come over in either state.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

from .encoding import Buffer
from .error import RedisReplyError
from .resp import Address, Argument, Reply, ReplyError
from .session import LOAD_TIMEOUT
from .tensors import tensor_get, tensor_reset
from .topology import Cluster, Command, Limits, SilentError, SingleServer, Topology, UnreachableError

_STEP = 500


def copy_database(source: str, target: str) -> dict[str, int]:
    """Copy every key; one of the same name is replaced.

    Arguments:
        source, target: `host:port` or `unix://path`; of a cluster, any of its servers.

    Returns:
        How many keys of each type came over.

    Raises:
        RedisReplyError: a key was refused; the message names it.
        UnreachableError, SilentError: a server was lost.
    """
    old, new = _connect(source), _connect(target)
    copied: Counter[str] = Counter()
    try:
        for key in _keys(old):
            kind = str(old.one(Command(key, (b"TYPE", key))))
            if kind == "none":
                continue
            try:
                for command in _storing(old, key, kind):
                    new.one(Command(key, command, LOAD_TIMEOUT))
            except ReplyError as error:
                raise RedisReplyError(f"key {key!r} ({kind}): {error}", "copy_database") from None
            copied[kind] += 1
    finally:
        old.close()
        new.close()
    return dict(copied)


def _connect(address: str) -> Topology:
    limits = Limits(connect=5)
    single = SingleServer(Address.parse(address), limits)
    try:
        clustered = b"cluster_enabled:1" in bytes(single.one(Command(b"", (b"INFO", b"CLUSTER"))))
    finally:
        single.close()
    return Cluster([Address.parse(address)], limits) if clustered else SingleServer(Address.parse(address), limits)


def _keys(topology: Topology) -> Iterator[bytes]:
    for address in topology.addresses():
        cursor = b"0"
        while True:
            cursor, keys = topology.at(str(address), (b"SCAN", cursor, b"COUNT", _STEP))
            yield from keys
            if bytes(cursor) == b"0":
                break


def _storing(old: Topology, key: bytes, kind: str) -> Iterator[tuple[Argument, ...]]:
    """The commands that make the key anew."""
    if kind == "AI_TENSOR":
        yield tensor_reset(key, old.one(tensor_get(key)))
    elif kind == "AI__MODEL":
        yield _model(key, _fields(old.one(Command(key, (b"AI.MODELGET", key, b"META", b"BLOB")))))
    elif kind == "AI_SCRIPT":
        yield _script(key, _fields(old.one(Command(key, (b"AI.SCRIPTGET", key, b"META", b"SOURCE")))))
    else:
        yield (b"RESTORE", key, 0, old.one(Command(key, (b"DUMP", key))), b"REPLACE")
    left = int(old.one(Command(key, (b"PTTL", key))))
    if left > 0:
        yield (b"PEXPIRE", key, left)


def _fields(reply: Reply) -> dict[str, Reply]:
    return {bytes(name).decode().lower(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def _model(key: bytes, facts: dict[str, Reply]) -> tuple[Argument, ...]:
    command: list[Argument] = [b"AI.MODELSTORE", key, facts["backend"], facts["device"]]
    for word in ("tag", "batchsize", "minbatchsize", "minbatchtimeout"):
        if facts.get(word):
            command += [word.upper(), facts[word]]
    if bytes(facts["backend"]) == b"TF":
        for word in ("inputs", "outputs"):
            command += [word.upper(), len(facts[word]), *facts[word]]
    blob: Buffer | list[Buffer] = facts["blob"]
    return (*command, b"BLOB", *(blob if isinstance(blob, list) else [blob]))


def _script(key: bytes, facts: dict[str, Reply]) -> tuple[Argument, ...]:
    points = facts.get("entry points") or []
    tag: list[Argument] = [b"TAG", facts["tag"]] if facts.get("tag") else []
    scope: list[Argument] = [b"ENTRY_POINTS", len(points), *points] if points else []
    return (
        b"AI.SCRIPTSTORE" if points else b"AI.SCRIPTSET",
        key,
        facts["device"],
        *tag,
        *scope,
        b"SOURCE",
        facts["source"],
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m taskensemble.ai.copying", description=__doc__)
    parser.add_argument("old", help="host:port or unix://path of the database to read")
    parser.add_argument("new", help="host:port or unix://path of the database to write")
    options = parser.parse_args()
    try:
        copied = copy_database(options.old, options.new)
    except (RedisReplyError, UnreachableError, SilentError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for kind, count in sorted(copied.items()):
        print(f"{count} {kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
