"""The study of oscillators.yaml as a driver: each stiffness with each sample, then one step that reads all results."""

import csv
import sys
from pathlib import Path

from taskensemble import Experiment

here = Path(__file__).resolve().parent
# --8<-- [start:experiment]
exp = Experiment("oscillators", launcher="local")
# --8<-- [end:experiment]

# --8<-- [start:simulate]
with open(here / "samples.csv", newline="") as file:
    damping = [row["DAMPING"] for row in csv.DictReader(file)]
simulate = exp.create_ensemble(
    "simulate",
    params={"STIFFNESS": [1.0, 4.0], "DAMPING": damping},
    run_settings=exp.create_run_settings("/bin/sh", "simulate.sh"),
    retries=2,
)
simulate.attach_generator_files(
    to_configure=str(here / "simulate.sh"), to_copy=str(here / "oscillator.py")
)
# --8<-- [end:simulate]

# --8<-- [start:collect]
collect = exp.create_model(
    "collect",
    exp.create_run_settings(
        sys.executable, [str(here / "collect.py"), simulate.path]
    ),
    depends_on=simulate,
)
# --8<-- [end:collect]

# --8<-- [start:start]
exp.start(simulate, collect, block=True)
print(exp.results(collect)[0]["result"])
# --8<-- [end:start]
