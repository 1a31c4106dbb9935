"""The servers behind one client: a single one, or the shards of a cluster.

A command goes to the server that holds its key. On a cluster each model and script is stored once a shard, under
`{tag}.name`, where the tag hashes to the first usable slot of the shard: every SmartRedis client looks there.
"""

from __future__ import annotations

import binascii
import functools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from .resp import Address, Argument, Connection, Reply, ReplyError

SLOTS = 16384

T = TypeVar("T")


class UnreachableError(Exception):
    """A server could not be reached within the limits."""


class SilentError(Exception):
    """A server did not answer within the limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for connecting at first, one attempt of it, for commands whose server is lost, and between attempts."""

    connect: float = 100.0
    attempt: float = 5.0
    command: float = 100.0
    connect_interval: float = 1.0
    command_interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and the key that decides where it goes.

    `timeout`: seconds to wait for the reply beyond the limit for commands. `repeatable`: whether it may be sent again
    when the connection breaks before its reply.
    """

    key: bytes
    arguments: tuple[Argument, ...]
    timeout: float = 0.0
    repeatable: bool = True


def key_slot(key: bytes) -> int:
    """The cluster's hash slot of a key: CRC16 of the key, or of what stands in its first `{}` unless that is empty."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


@functools.lru_cache(maxsize=1)
def _pairs() -> dict[int, bytes]:
    """The two bytes of each CRC16: every value has exactly one pair."""
    pairs = (bytes((first, second)) for first in range(256) for second in range(256))
    return {binascii.crc_hqx(pair, 0): pair for pair in pairs}


def shard_tag(low: int) -> bytes:
    """The hash tag of a shard whose first slot is `low`.

    It is the two bytes whose CRC16 is the slot, or, where one of them would be a brace, the byte 1 (then 2, …) and two
    more. The rule is SmartRedis', whose clients would not find models elsewhere.
    """
    for lead in (b"", *(bytes((byte,)) for byte in range(1, 256))):
        # The CRC is linear: that of lead and pair is that of lead and two zeros, combined with that of the pair.
        tag = lead + _pairs()[low ^ binascii.crc_hqx(lead + b"\0\0", 0)]
        if not {*b"{}"} & {*tag}:
            return tag
    raise AssertionError(f"slot {low} has no tag")


class Node:
    """One server with one connection, made again when it breaks."""

    def __init__(self, address: Address, limits: Limits) -> None:
        self.address = address
        self._limits = limits
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Connect, trying for as long as the limits say.

        Raises:
            UnreachableError: no attempt succeeded.
        """
        self._insist(self._connected, self._limits.connect, self._limits.connect_interval, repeatable=True)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands in one go and return their replies, errors among them.

        Raises:
            UnreachableError: the connection broke and could not be made again.
            SilentError: no reply came in time.
        """
        timeout = self._limits.command + max(command.timeout for command in commands)
        arguments = [command.arguments for command in commands]
        return self._insist(
            lambda: self._connected().exchange(arguments, timeout),
            self._limits.command,
            self._limits.command_interval,
            repeatable=all(command.repeatable for command in commands),
        )

    def _connected(self) -> Connection:
        if self._connection is not None and self._connection.inherited:
            self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = Connection(self.address, self._limits.attempt)
        return self._connection

    def _insist(self, attempt: Callable[[], T], limit: float, interval: float, *, repeatable: bool) -> T:
        deadline = time.monotonic() + limit
        while True:
            connected = self._connection is not None
            try:
                with self._lock:
                    return attempt()
            except OSError as error:
                sent = self._connection is not None
                self.close()
                if sent and isinstance(error, TimeoutError):
                    raise SilentError(f"{self.address} did not answer in time; SR_CMD_TIMEOUT is the limit") from None
                if time.monotonic() + interval > deadline or (sent and not repeatable):
                    raise UnreachableError(f"{self.address} cannot be reached: {error}") from None
                if connected:
                    continue
            time.sleep(interval)


class Topology(ABC):
    """Routes commands to servers."""

    clustered: bool

    @abstractmethod
    def many(self, commands: Sequence[Command]) -> list[Reply]:
        """Send commands to where their keys are, one write a server, and return the replies in the order given."""

    @abstractmethod
    def at(self, address: str, arguments: tuple[Argument, ...]) -> Reply:
        """Send a command to the server at `host:port` or `unix://path`.

        Raises:
            UnreachableError: the address is none of this database's.
            ValueError: it is no address.
        """

    @abstractmethod
    def tags(self) -> list[bytes]:
        """The hash tag of each shard in the order of slots; of a single server, one empty tag."""

    @abstractmethod
    def addresses(self) -> list[Address]:
        """Every server that holds data of its own."""

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""

    def one(self, command: Command) -> Reply:
        """Send one command.

        Raises:
            ReplyError: the server answered with an error.
        """
        reply = self.many([command])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply


class SingleServer(Topology):
    """A database of one server."""

    clustered = False

    def __init__(self, address: Address, limits: Limits) -> None:
        self._node = Node(address, limits)
        self._limits = limits
        self._node.connect()

    def many(self, commands: Sequence[Command]) -> list[Reply]:
        deadline = time.monotonic() + self._limits.command
        replies = self._node.exchange(commands)
        for i, reply in enumerate(replies):
            while isinstance(reply, ReplyError) and _passing(reply) and time.monotonic() < deadline:
                time.sleep(self._limits.command_interval)
                reply = replies[i] = self._node.exchange([commands[i]])[0]  # noqa: PLW2901
        return replies

    def at(self, address: str, arguments: tuple[Argument, ...]) -> Reply:
        if Address.parse(address) != self._node.address:
            raise UnreachableError(f"This client is connected to {self._node.address}, not to {address}")
        return self.one(Command(b"", arguments))

    def tags(self) -> list[bytes]:
        return [b""]

    def addresses(self) -> list[Address]:
        return [self._node.address]

    def close(self) -> None:
        self._node.close()


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of slots and the server that holds it; a server may hold several."""

    low: int
    high: int
    address: Address


class Cluster(Topology):
    """A database of several servers that share the hash slots."""

    clustered = True

    def __init__(self, addresses: Sequence[Address], limits: Limits) -> None:
        self._limits = limits
        self._seeds = list(addresses)
        self._nodes: dict[Address, Node] = {}
        self._shards: list[Shard] = []
        self._owners: list[Address | None] = []
        self._refresh()

    def _node(self, address: Address) -> Node:
        return self._nodes.setdefault(address, Node(address, self._limits))

    def _refresh(self) -> None:
        failure: Exception = UnreachableError("no address was given")
        for address in [*self._seeds, *(shard.address for shard in self._shards)]:
            try:
                node = self._node(address)
                node.connect()
                reply = node.exchange([Command(b"", ("CLUSTER", "SLOTS"))])[0]
            except (UnreachableError, SilentError) as error:
                failure = error
                continue
            if isinstance(reply, ReplyError):
                raise reply
            self._shards = sorted(
                (
                    Shard(low, high, Address(bytes(host or b"").decode() or address.host, port))
                    for low, high, (host, port, *_), *_ in reply
                ),
                key=lambda shard: shard.low,
            )
            self._owners = [None] * SLOTS
            for shard in self._shards:
                self._owners[shard.low : shard.high + 1] = [shard.address] * (shard.high + 1 - shard.low)
            return
        raise failure

    def _owner(self, key: bytes) -> Node:
        owner = self._owners[key_slot(key)]
        if owner is None:
            self._refresh()
            owner = self._owners[key_slot(key)]
        if owner is None:
            raise UnreachableError(f"No server of the cluster holds the slot of key {key!r}")
        return self._node(owner)

    def many(self, commands: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = [None] * len(commands)
        by_node: dict[Node, list[int]] = {}
        for i, command in enumerate(commands):
            by_node.setdefault(self._owner(command.key), []).append(i)
        for node, indexes in by_node.items():
            for i, reply in zip(indexes, node.exchange([commands[i] for i in indexes]), strict=True):
                replies[i] = self._settled(commands[i], reply) if isinstance(reply, ReplyError) else reply
        return replies

    def _settled(self, command: Command, reply: Reply) -> Reply:
        """The reply after following redirections and waiting out a resharding."""
        deadline = time.monotonic() + self._limits.command
        while isinstance(reply, ReplyError) and time.monotonic() < deadline:
            word, _, rest = str(reply).partition(" ")
            if word == "MOVED":
                self._refresh()
                reply = self._owner(command.key).exchange([command])[0]
            elif word == "ASK":
                node = self._node(Address.parse(rest.split()[-1]))
                reply = node.exchange([Command(b"", ("ASKING",)), command])[1]
            elif _passing(reply):
                time.sleep(self._limits.command_interval)
                self._refresh()
                reply = self._owner(command.key).exchange([command])[0]
            else:
                break
        return reply

    def at(self, address: str, arguments: tuple[Argument, ...]) -> Reply:
        wanted = Address.parse(address)
        if wanted not in self.addresses():
            known = ", ".join(map(str, self.addresses()))
            raise UnreachableError(f"{address} is no server of this cluster; its servers are {known}")
        reply = self._node(wanted).exchange([Command(b"", arguments)])[0]
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def tags(self) -> list[bytes]:
        return [shard_tag(shard.low) for shard in self._shards]

    def addresses(self) -> list[Address]:
        return list(dict.fromkeys(shard.address for shard in self._shards))

    def nearest_tag(self, keys: Sequence[bytes]) -> bytes:
        """The tag of the shard that holds most of the keys."""
        slots = [key_slot(key) for key in keys]
        shard = max(self._shards, key=lambda shard: sum(shard.low <= slot <= shard.high for slot in slots))
        return shard_tag(shard.low)

    def tag_at(self, address: str) -> bytes:
        """The tag of the first shard on the server at an address.

        Raises:
            UnreachableError: it is no server of this cluster.
        """
        wanted = Address.parse(address)
        for shard in self._shards:
            if shard.address == wanted:
                return shard_tag(shard.low)
        raise UnreachableError(f"{address} is no server of this cluster")

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()


def _passing(error: ReplyError) -> bool:
    """Whether an error goes away by itself: the server loads its data, or slots move."""
    return str(error).startswith(("LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"))
