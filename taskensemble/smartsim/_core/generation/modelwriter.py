"""Tagged files written with parameters, apart from any model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from logging import getLogger
from pathlib import Path

from taskensemble.errors import ParameterWriterError

logger = getLogger("taskensemble")


class ModelWriter:
    """Puts parameters into tagged files, in place. What a tag is can be a regular expression here."""

    def __init__(self) -> None:
        self.tag = ";"
        self.regex = "(;[^;]+;)"
        self.lines: list[str] = []

    def set_tag(self, tag: str, regex: str | None = None) -> None:
        """Say what stands around a parameter's name.

        Args:
            tag: the mark on both sides.
            regex: a whole regular expression for a mark, a name and a mark; None: one of `tag`.
        """
        if regex:
            self.regex = regex
        else:
            self.tag = tag
            # SmartSim's own expression is greedy, and takes two tags of a line for one.
            self.regex = f"({re.escape(tag)}.+?{re.escape(tag)})"

    def configure_tagged_model_files(
        self, tagged_files: Iterable[str], params: Mapping[str, object], make_missing_tags_fatal: bool = False
    ) -> dict[str, dict[str, str]]:
        """Write parameters into files.

        Args:
            tagged_files: their paths.
            params: name -> value.
            make_missing_tags_fatal: raise where a tag names no parameter; else what is inside it stays.

        Returns:
            dict: of each file, the parameters it has used.

        Raises:
            ParameterWriterError: a file cannot be read or written, or has such a tag.
        """
        used = {}
        for path in tagged_files:
            self._set_lines(path)
            used[path] = self._replace_tags(params, make_missing_tags_fatal)
            self._write_changes(path)
        return used

    def _set_lines(self, file_path: str) -> None:
        try:
            self.lines = Path(file_path).read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError as error:
            raise ParameterWriterError(f"Failed to read configuration file to write at {file_path}: {error}") from error

    def _write_changes(self, file_path: str) -> None:
        try:
            with open(file_path, "w", encoding="utf-8") as stream:
                stream.writelines(self.lines)
        except OSError as error:
            raise ParameterWriterError(f"Failed to write configuration file to {file_path}: {error}") from error

    def _replace_tags(self, params: Mapping[str, object], fatal: bool) -> dict[str, str]:
        used: dict[str, str] = {}
        unused: dict[str, list[int]] = {}

        def value(found: re.Match[str]) -> str:
            name = found.group(0).split(self.tag)[1]
            if name in params:
                used[name] = str(params[name])
                return used[name]
            unused.setdefault(name, []).append(number)
            return name

        edited = []
        for number, line in enumerate(self.lines, 1):  # noqa: B007 -- `value` reads it
            edited.append(re.sub(self.regex, value, line))
        for name, lines in unused.items():
            message = f"Unused tag {name} on line(s): {lines}"
            if fatal:
                raise ParameterWriterError(message)
            logger.warning(message)
        self.lines = edited
        return used
