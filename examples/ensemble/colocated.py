"""A database on each member's own node, on a Unix socket."""

import sys
from pathlib import Path

import torch
from torch import Tensor

from taskensemble import Experiment
from taskensemble.ml.torch import script_model


class Mean(torch.nn.Module):
    """The mean of each row."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.mean(dim=1)


exp = Experiment("colocated", launcher="local")
program = exp.create_run_settings(
    sys.executable, str(Path("use_model.py").resolve())
)
# --8<-- [start:colocate]
ensemble = exp.create_ensemble("beside", run_settings=program, replicas=2)
ensemble.colocate_db_uds(db_cpus=1)
ensemble.add_ml_model("mean", "TORCH", model=script_model(Mean()), device="CPU")
exp.start(ensemble, block=True, summary=True)
# --8<-- [end:colocate]
for row in exp.results(ensemble):
    print(row["name"], row["state"], row["result"])
