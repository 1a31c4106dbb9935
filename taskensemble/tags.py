"""Tags in a text file: `;THERMO;` stands for the parameter THERMO.

A tag is what stands between two tag marks on one line: the name of a parameter, or one word that is not. Two marks with
spaces or nothing between them are text (`a; b;`), so that a file may use the mark for itself. A line may have many tags, and
marks are taken literally, whatever they mean in a regular expression.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from taskensemble.errors import ParameterWriterError


@dataclass(frozen=True)
class TaggedText:
    """A file taken apart: texts, and between them parameters.

    Attributes:
        texts: one more than `names`.
        names: the parameter between text i and text i + 1.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, params: Mapping[str, str]) -> str:
        """The text with the values of `params` in the places of their names."""
        parts = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            parts += (params[name], text)
        return "".join(parts)


def configure(
    text: str, params: Mapping[str, str], tag: str = ";", *, allow_unknown_tags: bool = False, source: str = "text"
) -> str:
    """`text` with each tag replaced by the value of the parameter it names.

    Args:
        text: of any number of lines.
        params: name -> value.
        tag: the mark on both sides of a name.
        allow_unknown_tags: put the text inside a tag that names no parameter in its place, instead of raising.
        source: what the text is called in an error.

    Raises:
        ParameterWriterError: a tag names no parameter; the message says where.
    """
    return split(text, frozenset(params), tag, allow_unknown_tags, source).fill(params)


def split(text: str, names: frozenset[str], tag: str, allow_unknown_tags: bool, source: str) -> TaggedText:
    """Take `text` apart at the tags that name one of `names`. Raises as `configure` does."""
    texts: list[str] = []
    found: list[str] = []
    pending: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if number > 1:
            pending.append("\n")
        position = 0
        while (start := line.find(tag, position)) >= 0:
            inside = start + len(tag)
            end = line.find(tag, inside)
            if end < 0:
                break
            name = line[inside:end]
            if name in names:
                pending.append(line[position:start])
                texts.append("".join(pending))
                found.append(name)
                pending = []
                position = end + len(tag)
            elif not name or any(character.isspace() for character in name):
                pending.append(line[position:inside])
                position = inside
            elif allow_unknown_tags:
                pending += (line[position:start], name)
                position = end + len(tag)
            else:
                raise _unknown(source, number, f"{tag}{name}{tag}", names)
        pending.append(line[position:])
    return TaggedText((*texts, "".join(pending)), tuple(found))


def _unknown(source: str, line: int, tag: str, names: Iterable[str]) -> ParameterWriterError:
    known = ", ".join(sorted(names)) or "none"
    return ParameterWriterError(
        f"{source}, line {line}: the tag {tag} names no parameter (there are: {known}); correct it, add the parameter, choose "
        "another tag, or attach the file with allow_unknown_tags=True to keep the text inside"
    )


def check_file(path: str, names: frozenset[str], tag: str, allow_unknown_tags: bool) -> TaggedText:
    """The file at `path`, taken apart; read again only when it changed.

    Raises:
        ParameterWriterError: it cannot be read, or a tag names no parameter.
    """
    try:
        status = os.stat(path)
        return _read(path, status.st_mtime_ns, status.st_size, names, tag, allow_unknown_tags)
    except OSError as error:
        raise ParameterWriterError(f"to_configure: {path} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=256)
def _read(
    path: str, _modified: int, _size: int, names: frozenset[str], tag: str, allow_unknown_tags: bool
) -> TaggedText:
    # Bytes that are no UTF-8 come back as they were: not every input deck is text of our time.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return split(stream.read(), names, tag, allow_unknown_tags, path)
