"""MPI members: each runs `mpirun -n 2`, and holds two slots while it does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from taskensemble import Experiment

if shutil.which("mpicc") is None or shutil.which("mpirun") is None:
    sys.exit(
        "This example needs MPI: `apt-get install openmpi-bin libopenmpi-dev` on Debian."
    )
subprocess.run(
    ["mpicc", "-std=c11", "-O2", "heat_rod.c", "-o", "heat_rod", "-lm"],
    check=True,
)

exp = Experiment("rods", launcher="local")
rod = exp.create_run_settings(
    exe=str(Path("heat_rod").resolve()), run_command="mpirun"
)
rod.set_tasks(2)
mpi = subprocess.run(
    ["mpirun", "--version"], capture_output=True, text=True, check=True
)
if "Open MPI" in mpi.stdout:
    # Open MPI refuses more ranks than cores, and to run as root, unless it is told.
    rod.set("oversubscribe")
    if os.geteuid() == 0:
        rod.set("allow-run-as-root")
ensemble = exp.create_ensemble(
    "rod",
    params_as_args={"diffusivity": [0.5, 1.0, 2.0]},
    run_settings=rod,
    resources={"cpus": 2},
)
exp.start(ensemble, block=True, summary=True)
for row in exp.results(ensemble):
    print(row["name"], row["params"], row["result"])
