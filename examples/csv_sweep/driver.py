"""A parameter sweep from a table: each row of samples.csv is a member."""

import csv
import sys
from pathlib import Path

from taskensemble import Experiment

exp = Experiment("sweep", launcher="local")
program = exp.create_run_settings(exe=sys.executable, exe_args="oscillator.py")
ensemble = exp.create_ensemble(
    "oscillator", samples="samples.csv", run_settings=program
)
ensemble.attach_generator_files(
    to_copy="oscillator.py", to_configure="oscillator.in"
)
exp.generate(ensemble, overwrite=True)
exp.start(ensemble, block=True, summary=True)

with open("swept.csv", "w", newline="") as file:
    table = csv.DictWriter(
        file, ["member", "mass", "stiffness", "damping", "settled_s", "passes"]
    )
    table.writeheader()
    for row in exp.results(ensemble):
        table.writerow(
            {"member": row["name"], **row["params"], **row["result"]}
        )
print(Path("swept.csv").read_text(), end="")
