"""A scikit-learn model that the members call: trained here, stored as ONNX, run in the database."""

import sys
from pathlib import Path

from train import train

from taskensemble import Experiment

exp = Experiment("spheres", launcher="local")
db = exp.create_database(port=0, interface="lo")
program = exp.create_run_settings(
    exe=sys.executable, exe_args=str(Path("fall.py").resolve())
)
ensemble = exp.create_ensemble(
    "sphere",
    params_as_args={"diameter": [1e-4, 1e-3, 3e-3, 1e-2]},
    run_settings=program,
)
ensemble.add_ml_model("drag", "ONNX", model=train(), device="CPU")
exp.start(db, ensemble, block=True, summary=True)

for row in exp.results(ensemble):
    millimetres, result = 1000 * float(row["params"]["diameter"]), row["result"]
    print(
        f"a steel sphere of {millimetres:g} mm falls through water at {result['velocity']:.3f} m/s ({result['calls']} calls)"
    )
exp.stop(db)
