"""The report of a run: one HTML page that needs nothing else, its pictures as PNG files, and the same facts as JSON.

facts.py      gathers what is known of a run
pictures.py   draws it
page.py       writes the page
"""

from __future__ import annotations

import json
from pathlib import Path

from taskensemble.engine.store import Store
from taskensemble.report.facts import Facts, gather
from taskensemble.results import finite


def write(store: Store, run_id: str, folder: Path) -> Path:
    """Write a run's report: report.html, facts.json, and a PNG file for each picture.

    Parameters:
        store: where the run's record is.
        run_id: of a run in any state; one that goes on is reported as it stands.
        folder: where the files go; made if missing.

    Returns:
        Path: of report.html, which holds the pictures too and can be passed on alone

    Raises:
        RunNotFoundError: there is no such run
        UnsupportedError: matplotlib is not installed
    """
    from taskensemble.report.page import render
    from taskensemble.report.pictures import draw

    facts = gather(store, run_id)
    pictures = draw(facts)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    (folder / "facts.json").write_text(json.dumps(finite(facts.plain()), indent=2) + "\n", encoding="utf-8")
    page = folder / "report.html"
    page.write_text(render(facts, pictures), encoding="utf-8")
    return page


__all__ = ["Facts", "gather", "write"]
