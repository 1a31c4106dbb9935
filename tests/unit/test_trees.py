"""A folder that cannot be read is never left out in silence, whoever goes through it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskensemble.engine.records import FilesRecord
from taskensemble.entity import AttachedFiles
from taskensemble.errors import ControlPlaneError
from taskensemble.generation.folders import _configure, _copy
from taskensemble.inputs import _files_of
from taskensemble.launch.processes import KeptProcesses
from taskensemble.transfer.inputs import _input, _Reader
from taskensemble.transfer.outputs import snapshot
from taskensemble.trees import walk
from workers.limits import _with_links

NOBODY = 65534


@pytest.fixture
def case() -> Iterator[Path]:
    """A folder with a file, and beside it a folder that its owner may not read; root becomes somebody else for the test."""
    folder = Path(tempfile.mkdtemp(prefix="te-unread-", dir="/tmp"))
    (folder / "case" / "locked").mkdir(parents=True)
    (folder / "case" / "in.txt").write_text("x")
    (folder / "case" / "locked" / "mesh").write_text("x")
    (folder / "member").mkdir()
    root = os.geteuid() == 0
    if root:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    (folder / "case" / "locked").chmod(0)
    if root:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        (folder / "case" / "locked").chmod(0o700)
        shutil.rmtree(folder)


WALKS: dict[str, Callable[[Path], object]] = {
    "copied": lambda folder: _copy(FilesRecord(copy=(str(folder / "case"),)), folder / "member"),
    "configured": lambda folder: _configure(FilesRecord(configure=(str(folder / "case"),)), folder / "member", {}),
    "attached": lambda folder: AttachedFiles.of(to_configure=str(folder / "case")),
    "checked for tags": lambda folder: list(_files_of(str(folder / "case"))),
    "sent to workers": lambda folder: _input(str(folder / "case"), _Reader(1000)),
    "sent back": lambda folder: snapshot(folder / "case"),
    "checked against roots": lambda folder: list(_with_links(folder / "case")),
}


@pytest.mark.parametrize("walks", WALKS)
def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(case: Path, walks: str) -> None:
    with pytest.raises(OSError, match="locked") as caught:
        WALKS[walks](case)
    assert "Permission denied" in str(caught.value)


def test_of_what_is_no_folder_nothing_is_walked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert [list(walk(tmp_path / name)) for name in ("file", "nothing")] == [[], []]


def test_a_list_of_workers_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    """`down` would say that it has ended all of them."""
    path = tmp_path / "workers.json"
    assert KeptProcesses(path).living() == []
    path.write_text('[{"name": "w", "pi')
    with pytest.raises(ControlPlaneError, match=r"workers\.json"):
        KeptProcesses(path).living()
