"""Starting, waiting, looking and reading results."""

import sys
from pathlib import Path

from taskensemble import Experiment

program_path = str(Path("simulate.py").resolve())

# --8<-- [start:block]
exp = Experiment("start", launcher="local")
program = exp.create_run_settings(exe=sys.executable, exe_args=program_path)
ensemble = exp.create_ensemble(
    "plate",
    params={"THERMO": [95, 100, 105], "STEPS": 50},
    run_settings=program,
)
ensemble.attach_generator_files(to_configure="plate.in")
exp.start(ensemble, block=True, summary=True)
# --8<-- [end:block]

# --8<-- [start:results]
for row in exp.results(ensemble):
    print(
        row["name"],
        row["state"],
        row["returncode"],
        row["params"]["THERMO"],
        row["result"]["warmth"],
    )
# --8<-- [end:results]

# --8<-- [start:handle]
copies = exp.create_ensemble("copies", run_settings=program, replicas=3)
run = exp.start(copies, block=False)
print(run.run_id, run.status().state)
print("completed:", run.wait(timeout=120).completed)
# --8<-- [end:handle]

# --8<-- [start:status]
print(exp.get_status(ensemble, copies))
print(exp.finished(copies))
print(exp.summary(style="plain"))
# --8<-- [end:status]
