"""What arrives from another host stays in the folder that it is meant for."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble.errors import TransferError
from taskensemble.transfer.paths import below


@pytest.mark.parametrize("path", ["", ".", "/etc/passwd", "../x", "a/../../x", "link/passwd"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(TransferError):
        below(tmp_path, path)


def test_a_path_below_is_taken(tmp_path: Path) -> None:
    assert below(tmp_path, "a/b.dat") == tmp_path / "a/b.dat"
