"""One server of a database."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from taskensemble.entity import DatabaseNode as DBNode


@dataclass(frozen=True)
class LaunchedShardData:
    """Where a started server answers."""

    name: str
    hostname: str
    port: int
    cluster: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


__all__ = ["DBNode", "LaunchedShardData"]
