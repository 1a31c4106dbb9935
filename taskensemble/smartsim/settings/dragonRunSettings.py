"""Run settings of Dragon, which taskensemble does not launch with."""

from typing import Any

from taskensemble.errors import UnsupportedError
from taskensemble.settings import RunSettings


class DragonRunSettings(RunSettings):
    """Always refused.

    Raises:
        UnsupportedError: Dragon is no launcher of ours.
    """

    def __init__(self, exe: str, *_arguments: Any, **_keywords: Any) -> None:
        raise UnsupportedError(
            f"DragonRunSettings({exe!r}): taskensemble's workers take the place of the Dragon launcher; use create_run_settings"
        )
