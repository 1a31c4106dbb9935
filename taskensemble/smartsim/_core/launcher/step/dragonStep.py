"""Steps of Dragon, which taskensemble does not launch with."""

from __future__ import annotations

from typing import Any

from taskensemble.errors import UnsupportedError
from taskensemble.smartsim._core.launcher.step.step import Step


class DragonStep(Step):
    """Always refused.

    Raises:
        UnsupportedError: Dragon is no launcher of ours.
    """

    def __init__(self, name: str, *_arguments: Any, **_keywords: Any) -> None:
        raise UnsupportedError(
            f"{type(self).__name__}({name!r}): taskensemble's workers take the place of the Dragon launcher"
        )


class DragonBatchStep(DragonStep):
    """Always refused.

    Raises:
        UnsupportedError: Dragon is no launcher of ours.
    """


__all__ = ["DragonBatchStep", "DragonStep"]
