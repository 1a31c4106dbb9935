"""Online training: a network learns from an ensemble while it runs, and the ensemble uses the
network while it learns."""

import sys
from pathlib import Path

from taskensemble import Experiment


def script(name: str):
    """How to run a script beside this file."""
    return exp.create_run_settings(
        exe=sys.executable, exe_args=str(Path(name).resolve())
    )


# The members and the trainer need each other, so there is a slot for each of them.
exp = Experiment("swinging", launcher="local", slots=4)
db = exp.create_database(port=0)
members = exp.create_ensemble(
    "pendulum",
    params_as_args={"seed": [1, 2, 3]},
    run_settings=script("pendulum.py"),
    walltime=300,
)
trainer = exp.create_model("trainer", script("train.py"))
for member in members:
    trainer.register_incoming_entity(member)

exp.start(db, members, trainer, block=True)
(training,) = exp.results(trainer)
learned = training["result"]
print(
    f"{learned['samples']} samples: loss {learned['first_loss']:.4f} -> {learned['last_loss']:.6f}"
)
for row in exp.results(members):
    found = row["result"]
    print(
        f"{row['name']}: error {found['first_error']:.4f} at first, {found['last_error']:.4f} at last, "
        f"in {found['windows']} windows"
    )
exp.stop(db)
