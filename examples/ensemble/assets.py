"""ML models, scripts and functions for the members of an ensemble."""

import sys
from pathlib import Path

import torch
from torch import Tensor

from taskensemble import Experiment
from taskensemble.ml.torch import script_model

exp = Experiment("assets", launcher="local")
# --8<-- [start:database]
db = exp.create_database(port=0)
# --8<-- [end:database]
program = exp.create_run_settings(
    exe=sys.executable, exe_args=str(Path("use_assets.py").resolve())
)
ensemble = exp.create_ensemble("users", run_settings=program, replicas=2)


# --8<-- [start:memory]
class Mean(torch.nn.Module):
    """The mean of each row."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.mean(dim=1)


mean = script_model(Mean())
ensemble.add_ml_model("mean", "TORCH", model=mean, device="CPU", batch_size=8)
# --8<-- [end:memory]

Path("mean.pt").write_bytes(mean)
# --8<-- [start:file]
ensemble.add_ml_model(
    "mean_of_file", "TORCH", model_path="mean.pt", device="CPU"
)
# --8<-- [end:file]


# --8<-- [start:function]
def shift(field: Tensor) -> Tensor:
    """Shift a field so that its smallest value is zero."""
    return field - field.min()


ensemble.add_function("shift", function=shift, device="CPU")
# --8<-- [end:function]

# --8<-- [start:text]
ensemble.add_script(
    "scale",
    script="""
def scale(field: Tensor) -> Tensor:
    return field / field.max()
""",
    device="CPU",
)
# --8<-- [end:text]

Path("scale.py.txt").write_text(
    "def scale(field: Tensor) -> Tensor:\n    return field / field.max()\n"
)
# --8<-- [start:path]
ensemble.add_script("scale_of_file", script_path="scale.py.txt", device="CPU")
# --8<-- [end:path]

exp.start(db, ensemble, block=True, summary=True)
for row in exp.results(ensemble):
    print(row["name"], row["result"])
exp.stop(db)
