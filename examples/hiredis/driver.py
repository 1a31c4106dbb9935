"""Members in C that run a model in the database: compile, store a model, start a member for
each point, read the answers."""

import math
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from taskensemble import Experiment
from taskensemble.ml.torch import script_model


class Hill(torch.nn.Module):
    """The height of a Gaussian hill over the origin: one number for a point (x, y)."""

    def forward(self, point: Tensor) -> Tensor:
        return torch.exp(-(point**2).sum(-1, keepdim=True))


compiled = subprocess.run(
    ["cc", "-std=c11", "-O2", "member.c", "-o", "member", "-lhiredis"],
    check=False,
)
if compiled.returncode:
    sys.exit(
        "This example needs hiredis: `apt-get install libhiredis-dev gcc` on Debian."
    )

exp = Experiment("hills", launcher="local")
db = exp.create_database(port=0, interface="lo")
member = exp.create_run_settings(exe=str(Path("member").resolve()))
ensemble = exp.create_ensemble(
    "hill",
    params_as_args={"x": [0.0, 0.5, 1.0], "y": [0.0, 1.0]},
    run_settings=member,
    perm_strategy="all_perm",
)
ensemble.add_ml_model("hill", "TORCH", model=script_model(Hill()), device="CPU")
exp.start(db, ensemble, block=True, summary=True)

for row in exp.results(ensemble):
    x, y = float(row["params"]["x"]), float(row["params"]["y"])
    height, exact = row["result"]["height"], math.exp(-x * x - y * y)
    print(f"at ({x}, {y}) the model says {height:.5f}, the formula {exact:.5f}")
exp.stop(db)
