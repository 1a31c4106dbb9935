"""What the build adds to the written pages: the diagrams, the reference of the command line, and pages that others maintain."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parent


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every decision, and every page about a scheduler, into the navigation."""
    _extend(config.nav, "Decisions", "decisions")
    _extend(config.nav, "Clusters", "clusters")
    return config


def _extend(nav: list[Any], title: str, folder: str) -> None:
    """Make the entry `title` a section that also lists the pages of a folder."""
    for entry in nav:
        for name, value in entry.items() if isinstance(entry, dict) else ():
            if isinstance(value, list):
                _extend(value, title, folder)
            elif name == title:
                entry[name] = [
                    value,
                    *sorted(
                        f"{folder}/{page.name}" for page in (DOCS / folder).glob("*.md") if page.name != "index.md"
                    ),
                ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made rather than written."""
    # Here and not at the top: MkDocs puts the path back once it has loaded its hooks.
    sys.path[:0] = [str(DOCS.parent), str(DOCS)]
    diagrams = importlib.import_module("diagrams")
    for name, draw in diagrams.DIAGRAMS.items():
        files.append(File.generated(config, f"pictures/{name}", content=draw()))
    demo = _demo()
    for name in ("plate.png", "report/timeline.png", "report/results.png"):
        files.append(File.generated(config, f"pictures/{name}", content=(demo / name).read_bytes()))
    cli = importlib.import_module("cli_reference")
    files.append(File.generated(config, "reference/cli.md", content=cli.page()))
    files.append(File.generated(config, "notebook.md", content=_notebook()))
    return files


def _notebook() -> str:
    """The notebook of the examples as a page: its text, and its cells as code."""
    notebook = json.loads((DOCS.parent / "examples" / "notebook" / "tutorial.ipynb").read_text())
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    note = "The notebook itself is `examples/notebook/tutorial.ipynb`; a test runs its cells in a real kernel."
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def _demo() -> Path:
    """The folder of a real run of the demo and of the report on it, made again when one of them has changed."""
    folder = DOCS.parent / ".cache" / "demo"
    made = folder / "report" / "timeline.png"
    sources = (source for part in ("demo", "report") for source in (DOCS.parent / "taskensemble" / part).iterdir())
    if not made.exists() or made.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        for module, *arguments in (
            ("taskensemble.demo", str(folder)),
            ("taskensemble", "report", "last", "--path", str(folder), "--output", str(folder / "report")),
        ):
            subprocess.run([sys.executable, "-m", module, *arguments], check=True, cwd=DOCS.parent, timeout=600)
    return folder
