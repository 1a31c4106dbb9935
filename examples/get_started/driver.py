"""Nine throws: three speeds, three balls."""

import sys

from taskensemble import Experiment

exp = Experiment("throws", launcher="local")
program = exp.create_run_settings(exe=sys.executable, exe_args="simulate.py")
throws = exp.create_ensemble(
    "throw",
    params={"SPEED": [10, 20, 40], "DRAG": [0.0, 0.01, 0.1]},
    run_settings=program,
)
throws.attach_generator_files(to_copy="simulate.py", to_configure="ball.in")
exp.start(throws, block=True)

for row in exp.results(throws):
    print(f"{row['name']}: {row['params']} -> {row['result']['height']:.2f} m")
