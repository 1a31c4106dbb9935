"""A cluster: servers that share 16,384 hash slots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

from taskensemble.ai.resp import Address
from taskensemble.errors import DatabaseError

from .connection import Administration, Login, Refused, connected, text

SLOTS = 16384
_HEALTHY_WITHIN = 60.0


def slot_ranges(shards: int) -> list[tuple[int, int]]:
    """First and last slot of each shard: as equal as can be, in the order of the shards."""
    bounds = [round(index * SLOTS / shards) for index in range(shards + 1)]
    return [(low, high - 1) for low, high in pairwise(bounds)]


def form_cluster(addresses: Sequence[str], known: Login | None = None, within: float = _HEALTHY_WITHIN) -> None:
    """Make one cluster of empty servers that run in cluster mode, and wait until each of them is healthy.

    Arguments:
        addresses: `host:port` of each shard, three or more.
        known: the administrator, where the servers have one.
    Raises:
        DatabaseError: a server refuses, or the cluster is not healthy within so many seconds.
    """
    first = Address.parse(addresses[0])
    for index, (address, (low, high)) in enumerate(zip(addresses, slot_ranges(len(addresses)), strict=True)):
        try:
            with connected(address, known) as client:
                client.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                _take_slots(client, low, high)
                if index:
                    client.ask("CLUSTER", "MEET", first.host, first.port)
        except Refused as error:
            raise DatabaseError(f"{address} cannot become a shard of a cluster: {error}") from error
    wait_healthy(addresses, known, within)


def _take_slots(client: Administration, low: int, high: int) -> None:
    if int(client.info("server")["redis_version"].partition(".")[0]) >= 7:
        client.ask("CLUSTER", "ADDSLOTSRANGE", low, high)
    else:
        client.ask("CLUSTER", "ADDSLOTS", *range(low, high + 1))


def wait_healthy(addresses: Sequence[str], known: Login | None = None, within: float = _HEALTHY_WITHIN) -> None:
    """Wait until every shard knows all others and has all slots served.

    Raises:
        DatabaseError: not so within so many seconds.
    """
    deadline = time.monotonic() + within
    while True:
        sick = [address for address in addresses if not _healthy(address, known, len(addresses))]
        if not sick:
            return
        if time.monotonic() > deadline:
            raise DatabaseError(f"The cluster was not healthy within {within:g} s: {', '.join(sick)}")
        time.sleep(0.02)


def _healthy(address: str, known: Login | None, shards: int) -> bool:
    try:
        with connected(address, known, timeout=2.0) as client:
            state = text(client.ask("CLUSTER", "INFO"))
            nodes = text(client.ask("CLUSTER", "NODES"))
    except Refused:
        return False
    facts = dict(line.split(":", 1) for line in state.splitlines() if ":" in line)
    return (
        facts.get("cluster_state") == "ok"
        and int(facts.get("cluster_known_nodes", 0)) >= shards
        and int(facts.get("cluster_slots_ok", 0)) == SLOTS
        and "handshake" not in nodes
    )
