"""Files for members: copied, linked, configured."""

import sys
from pathlib import Path

from taskensemble import Experiment

exp = Experiment("files", launcher="local")
Path("mesh.dat").write_text("0 1\n1 2\n")

# --8<-- [start:attach]
program = exp.create_run_settings(exe=sys.executable, exe_args="simulate.py")
ensemble = exp.create_ensemble(
    "plate", params={"THERMO": [95, 105], "STEPS": 50}, run_settings=program
)
ensemble.attach_generator_files(
    to_copy="simulate.py", to_symlink="mesh.dat", to_configure="plate.in"
)
ensemble.print_attached_files()
# --8<-- [end:attach]

# --8<-- [start:generate]
exp.generate(ensemble, overwrite=True)
print(Path("files/plate/plate_1/plate.in").read_text())
# --8<-- [end:generate]
