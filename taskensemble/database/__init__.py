"""The database doer: starts, finds and stops AI databases, and loads ML assets into them.

    server.py    one server: binary, module, configuration, start, readiness, end
    cluster.py   several servers as the shards of one cluster
    standard.py  what a user calls a database: servers, the supervisor of their inference workers, and their address record
    external.py  a database that somebody else runs
    assets.py    ML models and scripts onto every device and shard, each verified

It acts on records: what starts is described by `DatabaseOptions`, what runs by an `engine.records.DatabaseAddressRecord`.
"""

from __future__ import annotations

from .assets import load_assets, restore_assets
from .external import attach_database
from .server import AI_MODULE, SERVER_VARIABLE, PortTakenError, free_port, interface_address, server_binary
from .standard import (
    DatabaseOptions,
    configure_database,
    is_alive,
    listens_here_alone,
    lives_here,
    read_record,
    start_database,
    stop_database,
    write_record,
)

__all__ = [
    "AI_MODULE",
    "SERVER_VARIABLE",
    "DatabaseOptions",
    "PortTakenError",
    "attach_database",
    "configure_database",
    "free_port",
    "interface_address",
    "is_alive",
    "listens_here_alone",
    "lives_here",
    "load_assets",
    "read_record",
    "restore_assets",
    "server_binary",
    "start_database",
    "stop_database",
    "write_record",
]
