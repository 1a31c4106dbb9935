"""Adaptive sampling: each round's members are asked of Optuna, which is told what the earlier
rounds found."""

import sys

import optuna

from taskensemble import Experiment

ROUNDS, MEMBERS = 6, 8
SPACE = {
    "along": optuna.distributions.FloatDistribution(-5.0, 10.0),
    "across": optuna.distributions.FloatDistribution(0.0, 15.0),
}


# --8<-- [start:rounds]
def rounds(study: optuna.Study):
    """Yields the parameters of a round's members, and is sent their results."""
    for number in range(ROUNDS):
        trials = [study.ask(SPACE) for _ in range(MEMBERS)]
        rows = yield [trial.params for trial in trials]
        for trial, row in zip(trials, rows, strict=True):
            if row["state"] == "Completed":
                study.tell(trial, row["result"]["height"])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        best = study.best_trial
        print(
            f"round {number}: the lowest of {len(study.trials)} points is {best.value:.4f} at {best.params}"
        )


# --8<-- [end:rounds]
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=3))
# --8<-- [start:start]
exp = Experiment("valley", launcher="local")
point = exp.create_model(
    "point", exp.create_run_settings(sys.executable, "valley.py")
)
point.attach_generator_files(to_copy="valley.py", to_configure="point.in")
exp.start_adaptive(point, rounds(study), quiet=True)
# --8<-- [end:start]
