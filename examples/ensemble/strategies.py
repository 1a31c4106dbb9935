"""How parameters become members."""

import sys

import numpy as np

from taskensemble import Experiment

exp = Experiment("strategies", launcher="local")
program = exp.create_run_settings(exe=sys.executable, exe_args="simulate.py")

# --8<-- [start:all_perm]
every = exp.create_ensemble(
    "every",
    params={"THERMO": [95, 100], "STEPS": [50, 100]},
    run_settings=program,
    perm_strategy="all_perm",
)
# --8<-- [end:all_perm]

# --8<-- [start:step]
paired = exp.create_ensemble(
    "paired",
    params={"THERMO": [95, 100], "STEPS": [50, 100]},
    run_settings=program,
    perm_strategy="step",
)
# --8<-- [end:step]

# --8<-- [start:random]
some = exp.create_ensemble(
    "some",
    params={f"P{i}": list(range(10)) for i in range(12)},
    run_settings=program,
    perm_strategy="random",
    n_models=20,
    seed=7,
)
# --8<-- [end:random]

# --8<-- [start:ranges]
filled = exp.create_ensemble(
    "filled",
    params={"THERMO": (90.0, 110.0), "DIFFUSIVITY": (10.0, 100.0)},
    run_settings=program,
    perm_strategy="latin_hypercube",
    n_models=8,
    seed=7,
)
even = exp.create_ensemble(
    "even",
    params={"THERMO": (90.0, 110.0)},
    run_settings=program,
    perm_strategy="sobol",
    n_models=8,
    seed=7,
)
# --8<-- [end:ranges]


# --8<-- [start:own]
def neighbours(
    names: list[str], values: list[list[str]], n_models: int
) -> list[dict[str, str]]:
    """Each value of the first parameter, n_models at most, with the first value of every other."""
    others = {
        name: choices[0]
        for name, choices in zip(names[1:], values[1:], strict=True)
    }
    return [
        {names[0]: value, **others} for value in values[0][: n_models or None]
    ]


mine = exp.create_ensemble(
    "mine",
    params={"THERMO": [95, 100, 105], "STEPS": [50, 100]},
    run_settings=program,
    perm_strategy=neighbours,
)
# --8<-- [end:own]

# --8<-- [start:samples]
table = exp.create_ensemble(
    "table", samples="samples.csv", run_settings=program
)
array = exp.create_ensemble(
    "array",
    samples=np.array([[95.0, 50], [105.0, 100]]),
    params=["THERMO", "STEPS"],
    run_settings=program,
)
# --8<-- [end:samples]

for ensemble in (every, paired, some, filled, even, mine, table, array):
    print(ensemble.name, len(ensemble), ensemble[0].params)
