"""The demo's driver: sixteen plates, one ensemble.

It trains the surrogate, starts a database, and starts a member for each pair of a heater's temperature and a material. What a
driver of your own needs from here is in `main`, between the training and the table.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from taskensemble import Experiment
from taskensemble.demo.picture import Outcome, draw
from taskensemble.errors import RunFailedError

HERE = Path(__file__).parent
TEMPERATURES = [80, 100, 120, 140]
"""Of the heaters, degrees Celsius."""
MATERIALS = {12.0: "carbon steel", 23.0: "iron", 34.0: "brass", 97.0: "aluminium"}
"""Diffusivities, mm^2/s, and whose they are."""


def main(folder: Path = Path("plate"), slots: int | None = None) -> Path:
    """Run the demo.

    Parameters:
        folder: where the members run and the picture goes; made if missing.
        slots: members that run at the same time; None: one for each core.

    Returns:
        The picture.

    Raises:
        RunFailedError: a member failed.
    """
    from taskensemble.demo.surrogate import DIFFUSIVITIES, PREPARE, train
    from taskensemble.demo.surrogate import TEMPERATURES as TRAINED

    console = Console()
    began = time.monotonic()
    with console.status("training the surrogate"):
        model, error = train()
    console.print(f"Surrogate trained in {time.monotonic() - began:.1f} s, {error:.2f} K off on its own training runs.")

    folder.mkdir(parents=True, exist_ok=True)
    exp = Experiment("plate", exp_path=str(folder), launcher="local", slots=slots)
    database = exp.create_database(port=0, interface="lo")
    program = exp.create_run_settings(exe=sys.executable, exe_args="simulate.py")
    ensemble = exp.create_ensemble(
        "plate",
        params={"THERMO": TEMPERATURES, "DIFFUSIVITY": list(MATERIALS)},
        run_settings=program,
        perm_strategy="all_perm",
    )
    ensemble.attach_generator_files(to_configure=str(HERE / "plate.in"), to_copy=str(HERE / "simulate.py"))
    ensemble.add_ml_model("surrogate", "TORCH", model=model, device="CPU")
    ensemble.add_script("prepare", script=PREPARE, device="CPU")
    exp.generate(ensemble, overwrite=True)
    exp.start(database, ensemble, block=True)
    rows = exp.results(ensemble)
    failed = [row for row in rows if row["state"] != "Completed"]
    if failed:
        logs = "; ".join(f"{row['path']}/{row['name']}.err" for row in failed)
        raise RunFailedError(f"{len(failed)} of {len(rows)} members did not complete. Their logs: {logs}")
    outcomes = collect(rows, database.get_address()[0])
    exp.stop(database)

    console.print(table(rows))
    picture = draw(outcomes, folder / "plate.png", (TRAINED, DIFFUSIVITIES), MATERIALS)
    console.print(f"{len(rows)} members completed; {time.monotonic() - began:.1f} s in all.")
    console.print(f"The picture: {picture.resolve()}", soft_wrap=True)
    console.print("Aluminium lies outside of what the surrogate was trained on: its errors show it.", style="dim")
    console.print(f"Next: taskensemble report last --path {shlex.quote(str(folder))}", style="dim", soft_wrap=True)
    return picture


def collect(rows: list[dict[str, Any]], address: str) -> list[Outcome]:
    """What the picture shows: the members' results, and their fields from the database."""
    from taskensemble.ai import Client

    client = Client(cluster=False, address=address)
    slots = lanes(rows)
    return [
        Outcome(
            name=row["name"],
            temperature=float(row["params"]["THERMO"]),
            diffusivity=float(row["params"]["DIFFUSIVITY"]),
            final=client.get_tensor(f"{row['name']}.final"),
            predicted=client.get_tensor(f"{row['name']}.predicted")[0],
            error=row["result"]["error_k"],
            slot=slot,
            started=row["started"],
            ended=row["ended"],
        )
        for row, slot in zip(rows, slots, strict=True)
    ]


def lanes(rows: list[dict[str, Any]]) -> list[int]:
    """A line for each row, so that what ran at the same time is on different ones: as many lines as slots were busy."""
    free: list[float] = []
    lines = [0] * len(rows)
    for index in sorted(range(len(rows)), key=lambda index: rows[index]["started"]):
        started, ended = rows[index]["started"], rows[index]["ended"]
        line = next((line for line, until in enumerate(free) if until <= started), len(free))
        free[line : line + 1] = [ended]
        lines[index] = line
    return lines


def table(rows: list[dict[str, Any]]) -> Table:
    """One line a member."""
    shown = Table(title="Plates, and the error of their surrogate", title_justify="left", title_style="bold")
    for name in ("member", "heaters", "material", "mean", "error", "worst", "took"):
        shown.add_column(name, justify="left" if name in ("member", "material") else "right")
    for row in rows:
        result, params = row["result"], row["params"]
        shown.add_row(
            row["name"],
            f"{float(params['THERMO']):g} °C",
            MATERIALS[float(params["DIFFUSIVITY"])],
            f"{result['mean_c']:.1f} °C",
            f"{result['error_k']:.2f} K",
            f"{result['worst_k']:.1f} K",
            f"{result['simulate_s']:.2f} s",
        )
    return shown
