"""Melt a crystal at several temperatures: an ensemble of LAMMPS runs from one tagged input file."""

import shutil
import sys

from taskensemble import Experiment

if shutil.which("lmp") is None:
    sys.exit("This example needs LAMMPS: `apt-get install lammps` on Debian.")

exp = Experiment("melt", launcher="local")
lammps = exp.create_run_settings(
    exe="lmp", exe_args=["-in", "in.melt", "-screen", "none"]
)
ensemble = exp.create_ensemble(
    "melt",
    params={"THERMO": [0.6, 1.2, 1.8, 2.4, 3.0, 3.6], "STEPS": 1500},
    run_settings=lammps,
    perm_strategy="all_perm",
)
ensemble.attach_generator_files(to_configure="in.melt")
exp.generate(ensemble, overwrite=True)
exp.start(ensemble, block=True, summary=True)

# The input's last line writes result.json, so the results are there without parsing a log.
print(f"{'start temperature':>18} {'temperature':>12} {'displacement':>13}")
for row in exp.results(ensemble):
    result = row["result"]
    state = "liquid" if result["displacement"] > 1.0 else "solid"
    print(
        f"{row['params']['THERMO']:>18} {result['temperature']:>12.3f} {result['displacement']:>13.3f}  {state}"
    )
