"""`smartsim_params.txt`: SmartSim's record of what was configured, for the experiment and for each member."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from tabulate import tabulate

from taskensemble.entity import Ensemble, Entity, Model
from taskensemble.tags import check_file

RECORD = "smartsim_params.txt"


def write_records(exp_path: str, entities: Iterable[Entity], tag: str | None, now: datetime) -> None:
    """Write the records of entities whose folders were made just now.

    Args:
        tag: instead of the one that files were attached with.
    """
    with Path(exp_path, RECORD).open("w", encoding="utf-8") as log:
        log.write(f"Generation start date and time: {now:%d/%m/%Y %H:%M:%S}\n")
        for model in _models(entities):
            entry = _entry(exp_path, model, tag)
            if entry:
                log.write(entry)
                Path(model.path, RECORD).write_text(entry, encoding="utf-8")


def _models(entities: Iterable[Entity]) -> Iterator[Model]:
    listed = list(entities)
    for entity in listed:
        if isinstance(entity, Ensemble):
            yield from entity
    yield from (entity for entity in listed if isinstance(entity, Model))


def _entry(exp_path: str, model: Model, tag: str | None) -> str:
    """Which files of a model were configured with which values; empty if none was."""
    if model.files is None:
        return ""
    rows = []
    used = False
    for source in model.files.tagged:
        for path, below in _tagged_files(source):
            text = check_file(path, frozenset(model.params), tag or model.files.tag, model.files.allow_unknown_tags)
            values = {name: model.params[name] for name in text.names}
            used = used or bool(values)
            shown = os.path.relpath(os.path.join(model.path, below), exp_path)
            rows.append((shown, tabulate(values.items(), headers=["Name", "Value"])))
    return f"Model name: {model.name}\n{tabulate(rows, headers=['File name', 'Parameters'])}\n\n" if used else ""


def _tagged_files(source: str) -> Iterator[tuple[str, str]]:
    if not os.path.isdir(source):
        yield source, os.path.basename(source)
        return
    for folder, _, names in os.walk(source):
        yield from (
            (os.path.join(folder, name), os.path.relpath(os.path.join(folder, name), source)) for name in sorted(names)
        )
