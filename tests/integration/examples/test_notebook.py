"""The notebook of the examples, every cell in a real kernel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).resolve().parents[3] / "examples" / "notebook" / "tutorial.ipynb"


def shown(cell: Any) -> str:
    """Everything that a cell has left below itself, as text."""
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", ""))
        parts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(parts)


def test_every_cell_runs_in_a_kernel_and_shows_the_bar_the_table_and_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("ipykernel", "torch", "pandas", "matplotlib"):
        pytest.importorskip(module)
    for name in ("TASKENSEMBLE_BROKER_URL", "TASKENSEMBLE_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(NOTEBOOK, tmp_path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")], "it is kept without outputs"
    nbclient.NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    started, table, plotted, asked, ended = code[2:7]
    assert "9/9 ended" in shown(started)
    assert "Completed" in shown(table)
    assert any("image/png" in output.get("data", {}) for output in plotted.outputs)
    assert "20.38" in shown(asked)
    assert "throw_8" in shown(ended)
    assert (tmp_path / "throws" / "throw" / "throw_8" / "result.json").exists()
