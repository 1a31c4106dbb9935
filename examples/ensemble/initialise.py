"""Run settings with parameters, and run settings with replicas."""

import sys

from taskensemble import Experiment

# --8<-- [start:experiment]
exp = Experiment("initialise", launcher="local")
program = exp.create_run_settings(exe=sys.executable, exe_args="simulate.py")
# --8<-- [end:experiment]

# --8<-- [start:params]
sweep = exp.create_ensemble(
    "sweep",
    params={"THERMO": [95, 100, 105], "STEPS": [50, 100]},
    run_settings=program,
    perm_strategy="all_perm",
)
# --8<-- [end:params]

# --8<-- [start:replicas]
copies = exp.create_ensemble("copies", replicas=4, run_settings=program)
# --8<-- [end:replicas]

# --8<-- [start:both]
repeated = exp.create_ensemble(
    "repeated", params={"THERMO": [95, 105]}, replicas=3, run_settings=program
)
# --8<-- [end:both]

# --8<-- [start:members]
print(len(sweep), "members:", [member.name for member in sweep])
print(sweep["sweep_0"].params, sweep["sweep_1"].params)
# --8<-- [end:members]
print(len(copies), [member.name for member in copies])
print(len(repeated), [member.params["THERMO"] for member in repeated])
