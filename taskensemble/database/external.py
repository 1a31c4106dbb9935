"""A database that somebody else runs: found by its URL, checked, never stopped."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from taskensemble.ai.resp import Address
from taskensemble.engine.records import DatabaseAddressRecord
from taskensemble.errors import DatabaseError, InputError

from .connection import Administration, Login, Refused, connected, text


def attach_database(url: str, identifier: str = "") -> DatabaseAddressRecord:
    """Find a running database: one with the AI module of taskensemble, or a RedisAI server.

    Arguments:
        url: `redis://[[user]:password@]host:port`, `host:port`, or `unix://path`; of a cluster, any shard.
        identifier: what its record carries.
    Raises:
        InputError: the URL is none of these.
        DatabaseError: nothing answers there, or what answers does not know the AI commands.
    """
    address, login = _parsed(url)
    try:
        with connected(address, login) as client:
            known = client.ask("COMMAND", "INFO", "AI.TENSORSET", "AI.MODELEXECUTE")
            clustered = client.info("cluster").get("cluster_enabled") == "1"
            shards = _shards(client) if clustered else [address]
    except Refused as error:
        if "AUTH" in str(error) or "WRONGPASS" in str(error):
            raise DatabaseError(
                f"The database at {address} asks for a password: {error}; give redis://:password@host:port"
            ) from error
        raise DatabaseError(f"No database answers at {address}: {error}") from error
    if not all(known):
        raise DatabaseError(
            f"The server at {address} does not know AI.TENSORSET: load the AI module of taskensemble, or RedisAI"
        )
    return DatabaseAddressRecord(
        identifier=identifier,
        addresses=tuple(shards),
        cluster=clustered,
        external=True,
        user=login.user if login else "",
        password=login.password if login else None,
    )


def _parsed(url: str) -> tuple[str, Login | None]:
    if url.startswith("unix://"):
        return url, None
    parts = urlsplit(url if "://" in url else f"redis://{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("redis", "valkey", "tcp") or not parts.hostname or port is None:
        raise InputError(
            f"url={url!r}: give redis://[[user]:password@]host:port, host:port or unix://path of a running database"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    login = Login(unquote(parts.username or ""), unquote(parts.password)) if parts.password else None
    return str(Address.parse(f"{host}:{port}")), login


def _shards(client: Administration) -> list[str]:
    """Addresses of the masters, in the order of their slots."""
    owners = sorted((low, text(node[0]), node[1]) for low, _, node, *_ in client.ask("CLUSTER", "SLOTS"))
    return list(dict.fromkeys(f"{host}:{port}" for _, host, port in owners))
