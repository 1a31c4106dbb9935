"""One server of a database."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from taskensemble.entity import DatabaseNode
from taskensemble.errors import DatabaseFilesError


@dataclass(frozen=True)
class LaunchedShardData:
    """Where a started server answers."""

    name: str
    hostname: str
    port: int
    cluster: bool

    @property
    def cluster_conf_file(self) -> str | None:
        """The file that a cluster's server keeps its cluster in; None: it is in none."""
        return f"nodes-{self.name}-{self.port}.conf" if self.cluster else None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class DBNode(DatabaseNode):
    """One server of a database, or, started by one command, all of them: see `taskensemble.entity.DatabaseNode`."""

    cluster = False
    """Whether its database is a cluster."""

    @property
    def type(self) -> str:
        return type(self).__name__

    def get_launched_shard_info(self) -> list[LaunchedShardData]:
        """Where its servers answer.

        Raises:
            SSDBFilesNotParseable: it was not started, or was stopped.
        """
        if not self.hosts:
            raise DatabaseFilesError(
                f"{self.name!r} does not run: there is no information on where it is; start it first"
            )
        shards = [self.name] if self.num_shards == 1 else [f"{self.name}_{shard}" for shard in range(self.num_shards)]
        # Servers of one command have a host each; those of one machine share it, and have ports.
        hosts = self.hosts if len(self.hosts) == len(shards) else self.hosts[:1] * len(shards)
        return [
            LaunchedShardData(name, host, self.ports[0], self.cluster) for name, host in zip(shards, hosts, strict=True)
        ]


__all__ = ["DBNode", "LaunchedShardData"]
