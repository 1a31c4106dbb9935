"""The common names of ensembles and databases."""

from __future__ import annotations

import os
from abc import ABC
from typing import Any, Generic, TypeVar

Member_co = TypeVar("Member_co", covariant=True)


class EntitySequence(ABC, Generic[Member_co]):
    """What has entities in it: an ensemble, a database. Nothing is made of this class itself."""

    def __init__(self, name: str, path: str | os.PathLike[str], **_keywords: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__}({name!r}, {str(path)!r}): use Ensemble or Orchestrator")


class EntityList(EntitySequence[Member_co]):
    """The same, with members that can be added."""
