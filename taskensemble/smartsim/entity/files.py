"""Files that a program finds in its folder."""

from __future__ import annotations

from typing import Any

from taskensemble.entity import AttachedFiles


class EntityFiles(AttachedFiles):
    """Files of a model: `taskensemble.entity.AttachedFiles`, in lists that a driver may compare and change.

    Args:
        tagged: files whose tags are replaced by parameters.
        copy: files and folders that are copied.
        symlink: files and folders that are linked, as `link`.

    Raises:
        TypeError: something is no path.
        FileNotFoundError: a path does not exist.
        ValueError: a record of parameters is among them, or two would have one name.
    """

    tagged: list[str]  # type: ignore[assignment]
    copy: list[str]  # type: ignore[assignment]
    link: list[str]  # type: ignore[assignment]

    def __init__(self, tagged: Any = None, copy: Any = None, symlink: Any = None) -> None:
        self._take(AttachedFiles.of(copy, symlink, tagged))

    @classmethod
    def made_of(cls, files: AttachedFiles) -> EntityFiles:
        """The same files, in lists."""
        new = cls.__new__(cls)
        new._take(files)
        return new

    def _take(self, files: AttachedFiles) -> None:
        lists = {"tagged": list(files.tagged), "copy": list(files.copy), "link": list(files.link)}
        self.__dict__ |= lists | {"tag": files.tag, "allow_unknown_tags": files.allow_unknown_tags}

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def _now(self) -> tuple[Any, ...]:
        return tuple(self.tagged), tuple(self.copy), tuple(self.link), self.tag, self.allow_unknown_tags

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EntityFiles) and self._now() == other._now()

    def __hash__(self) -> int:
        return hash(self._now())


__all__ = ["EntityFiles"]
