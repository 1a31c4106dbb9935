"""What arrives from another host stays in the folder that it is meant for."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from taskensemble.engine.records import TransferFileRecord
from taskensemble.errors import TransferError
from taskensemble.transfer import Scratch
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


def _prepared(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """A worker's folder is made below `root`, after what dead workers have left was deleted."""
    monkeypatch.setenv("TASKENSEMBLE_SCRATCH", str(root))
    scratch = Scratch("w0")
    scratch._prepare_root()
    scratch.close()


def test_a_worker_deletes_what_dead_workers_of_its_host_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scratch folder may be the user's own, with other things in it, and other nodes may share it."""
    dead = subprocess.Popen(["/bin/true"])
    dead.wait()
    ours = f"te-worker.{socket.gethostname()}.w1.{dead.pid}"
    others = [
        f"case.{dead.pid}",
        f"te-worker.elsewhere.w1.{dead.pid}",
        f"te-worker.{socket.gethostname()}.w1.{os.getpid()}",
    ]
    for name in (ours, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text("x")
    _prepared(monkeypatch, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to somebody else")
def test_a_link_in_the_temporary_folder_is_not_taken_for_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may lay one there. Its owner is told by the link, not by what it leads to."""
    link = tmp_path / f"taskensemble-{os.getuid()}-scratch"
    (tmp_path / "home").mkdir()
    link.symlink_to(tmp_path / "home")
    os.lchown(link, 12345, -1)
    monkeypatch.delenv("TASKENSEMBLE_SCRATCH", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(TransferError, match="belongs to another user"):
        Scratch("w0")._prepare_root()
