"""Parameters as arguments of the program."""

from taskensemble import Experiment

exp = Experiment("arguments", launcher="local")

# --8<-- [start:arguments]
program = exp.create_run_settings(exe="/bin/echo", exe_args="run")
by_name = exp.create_ensemble(
    "by_name",
    params={"H": [5, 6], "steps": [50, 100]},
    params_as_args=["H", "steps"],
    run_settings=program,
)
as_table = exp.create_ensemble(
    "as_table",
    params_as_args={"H": [5, 6], "steps": [50, 100]},
    run_settings=program,
)
# --8<-- [end:arguments]
print(by_name[0].run_settings.exe_args, len(as_table))
print(as_table[3].run_settings.exe_args)
