"""Members in C that run a model in the database: compile, store a model, start a member for each point, read the answers."""

import math
import shlex
import shutil
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


if (
    shutil.which("pkg-config") is None
    or subprocess.run(["pkg-config", "--exists", "hiredis"], check=False).returncode
):
    sys.exit(
        "This example needs hiredis: `apt-get install libhiredis-dev pkg-config` on Debian."
    )
flags = shlex.split(
    subprocess.run(
        ["pkg-config", "--cflags", "--libs", "hiredis"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
)
subprocess.run(
    ["cc", "-std=c11", "-O2", "member.c", "-o", "member", *flags], check=True
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
    print(
        f"{row['name']}: at ({x}, {y}) the model says {row['result']['height']:.5f}, the formula {math.exp(-x * x - y * y):.5f}"
    )
exp.stop(db)
