"""Files that a member finds in its folder when its program starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskensemble.errors import InputError, InputTypeError
from taskensemble.trees import check_path, walk

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
"""A path or several, as a user gives them."""

RECORDS = ("taskensemble_params.txt", "smartsim_params.txt")
"""The names of the parameter record, which generation writes itself."""


@dataclass(frozen=True)
class AttachedFiles:
    """What is put into a member's folder, in this order: copied, linked, configured. Paths are absolute.

    Attributes:
        copy: files, and folders whose contents are copied.
        link: linked by their base name.
        tagged: text files whose tags are replaced by parameters, and folders that are reproduced with them.
        tag: what stands around a parameter's name.
        allow_unknown_tags: leave a tag that names no parameter as the text inside it, instead of raising.
    """

    tagged: tuple[str, ...] = ()
    copy: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    tag: str = ";"
    allow_unknown_tags: bool = False

    @classmethod
    def of(
        cls,
        to_copy: object = None,
        to_symlink: object = None,
        to_configure: object = None,
        *,
        tag: str = ";",
        allow_unknown_tags: bool = False,
    ) -> AttachedFiles:
        """Files from what a user gives: a path or a list of paths each.

        Raises:
            InputTypeError: something is no path.
            FileNotFoundError: a path does not exist.
            InputError: a parameter record is among them, or two of them would have one name in the member's folder.
        """
        check_tag(tag)
        copied = _paths(to_copy, "to_copy")
        linked = _paths(to_symlink, "to_symlink")
        tagged = _paths(to_configure, "to_configure")
        for path in tagged:
            _check_tree(path)
        _check_targets(copied, linked, tagged)
        return cls(tagged, copied, linked, tag, allow_unknown_tags)

    def __bool__(self) -> bool:
        return bool(self.tagged or self.copy or self.link)

    def __str__(self) -> str:
        if not self:
            return "No file attached to this entity."
        from tabulate import tabulate

        rows = [("Copy", self.copy), ("Symlink", self.link), ("Configure", self.tagged)]
        return str(
            tabulate(
                [[name, "\n".join(paths)] for name, paths in rows if paths],
                headers=["Strategy", "Files"],
                tablefmt="grid",
            )
        )


def check_tag(tag: object) -> str:
    """`tag`, if it can stand around a parameter's name.

    Raises:
        InputTypeError: it is no string.
        InputError: it is empty or has a line break.
    """
    if not isinstance(tag, str):
        raise InputTypeError(
            f"tag: {tag!r} is a {type(tag).__name__}; give the text that stands around a parameter's name"
        )
    if not tag or "\n" in tag or "\r" in tag:
        raise InputError(f"tag: {tag!r} cannot stand around a name; give one or more characters without a line break")
    return tag


def _paths(given: object, argument: str) -> tuple[str, ...]:
    if given is None:
        return ()
    listed: Sequence[object]
    if isinstance(given, (str, os.PathLike)):
        listed = [given]
    elif isinstance(given, (list, tuple)):
        listed = given
    else:
        raise InputTypeError(f"{argument}: {given!r} is a {type(given).__name__}; give a path or a list of paths")
    found = []
    for item in listed:
        if not isinstance(item, (str, os.PathLike)):
            raise InputTypeError(f"{argument}: {item!r} is a {type(item).__name__}; paths are strings")
        found.append(check_path(os.path.abspath(os.fspath(item)), argument))
    for path in found:
        if os.path.basename(path) in RECORDS:
            raise InputError(
                f"{argument}: {path!r}: `{os.path.basename(path)}` is a file automatically generated and cannot be overwritten; "
                "rename yours"
            )
    for path in found:
        if not os.path.exists(path):
            raise FileNotFoundError(f"{argument}: file or directory {path!r} not found")
    return tuple(found)


def _check_tree(path: str) -> None:
    """A folder to configure is reproduced: links to folders in it could make a circle."""
    for folder, folders, _ in walk(path):
        for name in folders:
            inner = os.path.join(folder, name)
            if os.path.islink(inner):
                raise InputError(f"to_configure: {inner!r} is a link to a folder; put the folder itself there")


def _check_targets(copied: Sequence[str], linked: Sequence[str], tagged: Sequence[str]) -> None:
    """Two sources of one name would overwrite each other; a configured file must not be written through a link."""
    for argument, paths in (("to_copy", copied), ("to_symlink", linked), ("to_configure", tagged)):
        seen: dict[str, str] = {}
        for path in paths:
            if argument != "to_symlink" and os.path.isdir(path):
                continue
            name = os.path.basename(path)
            if seen.setdefault(name, path) != path:
                raise InputError(
                    f"{argument}: {seen[name]!r} and {path!r} would both be {name!r} in the member's folder"
                )
    for argument, paths in (("to_configure", tagged), ("to_copy", copied)):
        targets = {name: path for path in paths for name in _top_names(path)}
        for path in linked:
            name = os.path.basename(path)
            if name in targets:
                raise InputError(
                    f"to_symlink and {argument}: {path!r} and {targets[name]!r} would both be {name!r} in the member's folder"
                )


def _top_names(path: str) -> Iterator[str]:
    if os.path.isdir(path):
        yield from os.listdir(path)
    else:
        yield os.path.basename(path)
