"""The connection to a Dragon server, which taskensemble has none of."""

from __future__ import annotations

from typing import Any

from taskensemble.errors import UnsupportedError


class DragonConnector:
    """Always refused.

    Raises:
        UnsupportedError: Dragon is no launcher of ours.
    """

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        raise UnsupportedError("DragonConnector: taskensemble's workers take the place of the Dragon server")


__all__ = ["DragonConnector"]
