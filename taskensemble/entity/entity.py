"""What a model, an ensemble and a database have in common: a name, a folder, and what must end before they start."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from taskensemble.errors import InputError, InputTypeError
from taskensemble.trees import check_path

if TYPE_CHECKING:
    from taskensemble.settings import RunSettings


LONGEST_NAME = 200
"""Bytes of a name: a file's may have 255, and members' files add a number and a suffix."""


def check_name(name: object, kind: str) -> str:
    """`name`, if it can name an entity: it is a folder's name and a prefix of keys.

    Raises:
        AttributeError: there is none.
        InputTypeError: it is no string.
        InputError: it cannot be a folder's name.
    """
    if name is None or name == "":
        raise AttributeError(f"Entity has no name. Please set name attribute. ({kind}: name={name!r})")
    if not isinstance(name, str):
        raise InputTypeError(f"name: {name!r} is a {type(name).__name__}; the name of a {kind.lower()} is a string")
    if "/" in name or "\0" in name or name in (".", ".."):
        raise InputError(f"name: {name!r} cannot be a folder's name; leave out '/' and NUL")
    if not name.isprintable():
        raise InputError(f"name: {name!r} has line breaks or control characters; leave them out")
    if len(os.fsencode(name)) > LONGEST_NAME:
        shown = f"{name[:20]}…"
        raise InputError(
            f"name: {shown!r} has {len(os.fsencode(name))} bytes; files are named after it: give {LONGEST_NAME} or less"
        )
    return name


class Entity:
    """Something that an experiment starts.

    Attributes:
        name: names it in tables, in the database's keys and on disk.
        run_settings: how its program is run; None where it has none of its own.
        depends_on: entities that must have completed before this one starts.
    """

    def __init__(self, name: str, path: str | os.PathLike[str] | None, run_settings: RunSettings | None) -> None:
        self.name = check_name(name, type(self).__name__)
        self.run_settings = run_settings
        self.depends_on: list[Entity] = []
        self._path = None if path is None else check_path(os.path.abspath(os.fspath(path)), "path")
        self._default_path = os.path.join(os.getcwd(), self.name)

    @property
    def type(self) -> str:
        """The name of the class."""
        return type(self).__name__

    @property
    def path(self) -> str:
        """The folder it runs in: the one that was given, else the one below the experiment's."""
        return self._default_path if self._path is None else self._path

    @path.setter
    def path(self, path: str) -> None:
        self._path = path

    @property
    def path_given(self) -> bool:
        """Whether the user chose the folder."""
        return self._path is not None

    def set_path(self, path: str) -> None:
        """Choose the folder.

        Raises:
            InputTypeError: it is no string.
            InputError: no record can name it.
        """
        if not isinstance(path, str):
            raise InputTypeError(f"path: {path!r} is a {type(path).__name__}; the path argument must be a string")
        self._path = check_path(path, "path")

    def release_path(self) -> None:
        """Take back the choice of a folder."""
        self._path = None

    def place(self, path: str) -> None:
        """Say where the entity goes as long as the user does not choose a folder."""
        self._default_path = path

    def __repr__(self) -> str:
        return self.name


def check_dependencies(depends_on: Entity | Iterable[Entity] | None, name: str) -> list[Entity]:
    """The entities of `depends_on`, one or several.

    Raises:
        InputTypeError: something in it is no entity.
        InputError: an entity is named twice, or waits for itself.
    """
    if depends_on is None:
        return []
    if not isinstance(depends_on, Entity | Iterable):
        raise InputTypeError(
            f"depends_on={depends_on!r} is a {type(depends_on).__name__}; name models and ensembles of the same start"
        )
    # An ensemble iterates over its members; as a dependency it is one entity.
    given: Iterator[object] = iter([depends_on] if isinstance(depends_on, Entity) else depends_on)
    entities: list[Entity] = []
    for entity in given:
        if not isinstance(entity, Entity):
            raise InputTypeError(
                f"depends_on: {entity!r} is a {type(entity).__name__}; name models and ensembles of the same start"
            )
        if entity.name == name:
            raise InputError(f"depends_on: {name!r} cannot wait for itself")
        if any(entity is other for other in entities):
            raise InputError(f"depends_on: {entity.name!r} is there twice")
        entities.append(entity)
    return entities
