"""The client of the AI database, with SmartRedis' methods: `from taskensemble.ai import Client` is the whole change."""

from __future__ import annotations

from typing import Any

from .administration import AdministrationCalls
from .arguments import check_type
from .logger import SRObject
from .options import ConfigOptions
from .session import is_clustered


class Client(AdministrationCalls, SRObject):
    """A connection to an AI database; it can be shared by threads, which then take turns.

    A member of an ensemble needs no argument: `Client()`. Forms:

    - `Client(config_options=None, logger_name="Default")` reads SSDB (`host:port` or `unix://path`), SR_DB_TYPE
      (`Standalone` or `Clustered`; unset means Clustered), SSKEYIN and SSKEYOUT, each with the suffix of the options.
    - `Client(cluster, address=None, logger_name="Default")` is for driver scripts: the kind of database as a bool, and an
      address in place of SSDB.

    SR_CONN_TIMEOUT and SR_CMD_TIMEOUT (seconds, default 100) limit how long a lost server is waited for,
    SR_CONN_INTERVAL and SR_CMD_INTERVAL (milliseconds, default 1000) are the pauses, and SR_MODEL_TIMEOUT
    (milliseconds) is how long a request may wait in the database's queue.

    Raises:
        RedisConnectionError: SSDB is missing or malformed, or nothing answers there.
        TypeError: an argument that no form has.
        ValueError: a limit that is no positive number.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if (args and isinstance(args[0], bool)) or (not args and kwargs.keys() & {"cluster", "address"}):
            self._from_address(*args, **kwargs)
        elif not args or args[0] is None or isinstance(args[0], ConfigOptions):
            self._from_options(*args, **kwargs)
        else:
            raise TypeError(f"Invalid type for argument 0: {type(args[0])}: give ConfigOptions, or a bool for cluster")

    def _from_address(self, cluster: bool, address: str | None = None, logger_name: str = "Default") -> None:
        check_type(cluster, "cluster", bool)
        check_type(address, "address", (str, type(None)))
        self._begin(ConfigOptions.create_from_environment(""), cluster, address, logger_name)

    def _from_options(self, config_options: ConfigOptions | None = None, logger_name: str = "Default") -> None:
        options = config_options or ConfigOptions.create_from_environment("")
        self._begin(options, is_clustered(options), None, logger_name)

    def _begin(self, options: ConfigOptions, cluster: bool, address: str | None, logger_name: str) -> None:
        SRObject.__init__(self, logger_name)
        self._name = logger_name
        AdministrationCalls.__init__(self, options, cluster=cluster, address=address)

    def __str__(self) -> str:
        kind = "Clustered" if self._topology.clustered else "Non-clustered"
        servers = "".join(f"    {address}\n" for address in self._topology.addresses())
        return f"Client ({self._name}):\n{kind} Redis connection:\n  Redis shards at:\n{servers}"
