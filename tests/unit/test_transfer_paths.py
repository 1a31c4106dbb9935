"""What arrives from another host stays in the folder that it is meant for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from taskensemble.engine.records import TransferFileRecord
from taskensemble.errors import TransferError
from taskensemble.transfer.outputs import _write
from taskensemble.transfer.paths import below


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../x", "a/../../x", "link/passwd"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(TransferError):
        below(tmp_path, path)


def test_a_path_below_is_taken(tmp_path: Path) -> None:
    assert below(tmp_path, "a/b.dat") == tmp_path / "a/b.dat"


def test_a_link_that_was_sent_before_is_not_written_through(tmp_path: Path) -> None:
    """Its name is that of the file that is written before it takes its place, process number included."""
    folder, precious = tmp_path / "folder", tmp_path / "precious"
    folder.mkdir()
    precious.write_text("keep")
    _write(folder, (TransferFileRecord(path=f".data.{os.getpid()}", kind="link", target=str(precious)),), b"")
    data = TransferFileRecord(path="data", size=1, digest=hashlib.sha256(b"x").hexdigest(), mode=0o644)
    _write(folder, (data,), b"x")
    assert ((folder / "data").read_text(), precious.read_text()) == ("x", "keep")
