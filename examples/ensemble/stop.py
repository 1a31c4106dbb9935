"""Stopping, and starting again."""

from taskensemble import Experiment

# --8<-- [start:stop]
exp = Experiment("stop", launcher="local")
sleeper = exp.create_run_settings(exe="/bin/sleep", exe_args="600")
ensemble = exp.create_ensemble(
    "sleepers", run_settings=sleeper, replicas=8, grace=5
)
exp.start(ensemble, block=False)
exp.stop(ensemble)
print({str(status) for status in exp.get_status(ensemble)})
# --8<-- [end:stop]

# --8<-- [start:again]
again = exp.start(ensemble, block=False)
again.stop()
print(again.status().state)
# --8<-- [end:again]
