"""Adaptive sampling: each round's members are asked of Optuna, which is told what the earlier rounds found."""

import sys
from pathlib import Path

import optuna

from taskensemble import Experiment

ROUNDS, MEMBERS = 6, 8

optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=3))
space = {
    "along": optuna.distributions.FloatDistribution(-5.0, 10.0),
    "across": optuna.distributions.FloatDistribution(0.0, 15.0),
}

exp = Experiment("valley", launcher="local")
program = exp.create_run_settings(exe=sys.executable, exe_args=str(Path("valley.py").resolve()))
for number in range(ROUNDS):
    trials = [study.ask(space) for _ in range(MEMBERS)]
    members = exp.create_ensemble(
        f"round_{number}",
        samples=[trial.params for trial in trials],
        params_as_args=["along", "across"],
        run_settings=program,
    )
    exp.start(members, block=True, quiet=True)
    for trial, row in zip(trials, exp.results(members), strict=True):
        if row["state"] == "Completed":
            study.tell(trial, row["result"]["height"])
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    best = study.best_trial
    print(f"round {number}: the lowest of {len(study.trials)} points is {best.value:.4f} at {best.params}")
