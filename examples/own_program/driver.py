"""A program that was not made for this: it reads a file of settings, and prints what it found."""

from pathlib import Path

from taskensemble import Experiment

# --8<-- [start:describe]
exp = Experiment("integrals", launcher="local")
program = exp.create_run_settings("awk", "-f integrate.awk settings.txt")
sweep = exp.create_ensemble(
    "sweep", params={"N": [0, 1, 10, 100, 1000]}, run_settings=program
)
sweep.attach_generator_files(
    to_configure="settings.txt", to_copy="integrate.awk"
)
exp.start(sweep, block=True)
# --8<-- [end:describe]

# --8<-- [start:collect]
for row in exp.results(sweep):
    output = Path(row["path"], row["name"] + ".out").read_text()
    answer = output.split()[-1] if row["state"] == "Completed" else "none"
    print(row["params"]["N"], row["state"], answer)
# --8<-- [end:collect]
