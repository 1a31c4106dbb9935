"""Parameter sets from a table: a file or an array, one row a member."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskensemble.entity.parameters import check_names, scalar_text
from taskensemble.entity.strategies import Listed
from taskensemble.errors import InputError, InputTypeError


def read_samples(samples: object, names: Sequence[str] | None, constants: Mapping[str, object]) -> Listed:
    """The parameter sets of a table.

    Args:
        samples: path of a .npy or .csv file; an array of rows; a structured array; a list of dicts; a pandas frame.
        names: names of the columns, for a table that does not name them itself.
        constants: parameters with the same value in each row.

    Raises:
        FileNotFoundError: the file is not there.
        InputError, InputTypeError: the table cannot be used as it is; the message says why.
    """
    columns, rows = _table(samples, names)
    columns = check_names(columns, "samples")
    if not rows:
        raise InputError("samples: the table has no rows: there would be no members")
    both = [name for name in constants if name in columns]
    if both:
        raise InputError(f"params[{both[0]!r}] is a column of samples as well; give it in one of the two")
    fixed = {name: scalar_text(name, value) for name, value in constants.items()}
    sets = []
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise InputError(
                f"samples: row {number} has {len(row)} values for the {len(columns)} columns {', '.join(columns)}"
            )
        sets.append({name: scalar_text(name, value) for name, value in zip(columns, row, strict=True)} | fixed)
    return Listed(sets)


def _table(samples: object, names: Sequence[str] | None) -> tuple[list[str], list[Sequence[Any]]]:
    if isinstance(samples, (str, os.PathLike)):
        return _file(Path(samples), names)
    frame_columns = getattr(samples, "columns", None)
    if frame_columns is not None and hasattr(samples, "itertuples"):
        return [str(name) for name in frame_columns], [list(row) for row in samples.itertuples(index=False)]
    if isinstance(samples, list) and samples and all(isinstance(row, Mapping) for row in samples):
        columns = list(samples[0])
        for number, row in enumerate(samples):
            if set(row) != set(columns):
                raise InputError(
                    f"samples: row {number} has the keys {sorted(row)}, row 0 {sorted(columns)}; they must be equal"
                )
        return columns, [[row[name] for name in columns] for row in samples]
    return _array(samples, names)


def _array(samples: object, names: Sequence[str] | None) -> tuple[list[str], list[Sequence[Any]]]:
    import numpy as np

    if not isinstance(samples, (list, np.ndarray)):
        raise InputTypeError(
            f"samples: {type(samples).__name__} is no table; give the path of a .npy or .csv file, an array, a list of dicts or "
            "a pandas frame"
        )
    table = np.asarray(samples)
    if table.dtype.names:
        return list(table.dtype.names), [list(row) for row in table]
    if table.dtype == object:
        raise InputTypeError("samples: the array holds objects; give numbers or text, in rows of one length")
    if table.ndim == 1:
        table = table.reshape(-1, 1)
    if table.ndim != 2:
        raise InputError(f"samples: an array of shape {table.shape}; give one row a member, one column a parameter")
    if names is None:
        raise InputError(
            f"samples: the columns of an array of shape {table.shape} have no names; name them with params=['A', 'B', ...]"
        )
    return list(names), [list(row) for row in table]


def _file(path: Path, names: Sequence[str] | None) -> tuple[list[str], list[Sequence[Any]]]:
    if not path.is_file():
        raise FileNotFoundError(f"samples: {str(path)!r} is not a file")
    if path.suffix == ".npy":
        import numpy as np

        try:
            table = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            # NumPy says so of arrays of Python objects, which only unpickling could read.
            raise InputError(f"samples: {str(path)!r} has no table of numbers or texts: {error}") from error
        return _array(table, names)
    if path.suffix != ".csv":
        raise InputError(f"samples: {str(path)!r} is neither a .npy nor a .csv file")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows: list[Sequence[Any]] = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    if not rows:
        raise InputError(f"samples: {str(path)!r} is empty")
    if names is None:
        if all(_is_number(cell) for cell in rows[0]):
            raise InputError(f"samples: {str(path)!r} has no header row; name the columns with params=['A', 'B', ...]")
        return list(rows[0]), rows[1:]
    return list(names), rows[1:] if list(rows[0]) == list(names) else rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
