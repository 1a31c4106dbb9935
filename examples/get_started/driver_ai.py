"""The throws again, with a model in a database beside them."""

# --8<-- [start:model]
import sys

import torch
from torch import Tensor

from taskensemble import Experiment
from taskensemble.ml.torch import script_model


class Height(torch.nn.Module):
    """How high a ball comes: (speed, drag) -> height, from the exact solution."""

    def forward(self, throws: Tensor) -> Tensor:
        speed, drag = throws[:, :1], throws[:, 1:].clamp(min=1e-6)
        return torch.log1p(drag * speed**2 / 9.81) / (2 * drag)


model = script_model(Height())
# --8<-- [end:model]

# --8<-- [start:driver]
exp = Experiment("throws_ai", launcher="local")
db = exp.create_database(port=0)
program = exp.create_run_settings(exe=sys.executable, exe_args="ask.py")
throws = exp.create_ensemble(
    "throw",
    params={"SPEED": [10, 20, 40], "DRAG": [0.01, 0.1]},
    run_settings=program,
)
throws.attach_generator_files(to_copy="ask.py", to_configure="ball.in")
throws.add_ml_model("height", "TORCH", model=model, device="CPU")
exp.start(db, throws, block=True, summary=True)

for row in exp.results(throws):
    print(
        f"{row['name']}: {row['params']} -> {row['result']['predicted']:.2f} m predicted"
    )
exp.stop(db)
# --8<-- [end:driver]
