"""Dragon's launcher, which taskensemble does not have."""

from __future__ import annotations

from typing import Any

from taskensemble.errors import UnsupportedError
from taskensemble.smartsim._core.launcher.dragon.dragonConnector import DragonConnector
from taskensemble.smartsim._core.launcher.launcher import Launcher


class DragonLauncher(Launcher):
    """Always refused.

    Raises:
        UnsupportedError: Dragon is no launcher of ours.
    """

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        raise UnsupportedError("DragonLauncher: taskensemble's workers take the place of the Dragon launcher")


__all__ = ["DragonConnector", "DragonLauncher"]
