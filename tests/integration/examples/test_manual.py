"""The manual builds: warnings are errors, links are checked, and nothing on a page is loaded from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def test_the_manual_builds_without_a_warning(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings", "torch", "matplotlib"):
        pytest.importorskip(module)
    command = [sys.executable, str(ROOT / "docs" / "build.py"), str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "ensemble" / "index.html").exists()
    assert "stop_all" in (tmp_path / "site" / "reference" / "api" / "index.html").read_text()
    reference = "".join(page.read_text() for page in (tmp_path / "site" / "reference").rglob("index.html"))
    described = {name.rpartition(".")[2] for name in re.findall(r'id="(taskensemble\.[\w.]+)"', reference)}
    for module in ("taskensemble", "taskensemble.ai", "taskensemble.ml", "taskensemble.settings", "taskensemble.wlm"):
        # A status is a State, the base of the settings has nothing of its own, and the client's levels are numbers.
        public = {name for name in import_module(module).__all__ if name[0] != "_" and not name.startswith("LL")}
        assert public - {"Status", "SettingsBase", "LAUNCHERS", "current_allocation"} <= described, module
    assert "taskensemble resume" in (tmp_path / "site" / "reference" / "cli" / "index.html").read_text()
