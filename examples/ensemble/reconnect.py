"""A run found again by its id."""

from taskensemble import Experiment

first = Experiment("reconnect", launcher="local")
program = first.create_run_settings("/bin/echo", "hello")
run_id = first.start(
    first.create_ensemble("hello", run_settings=program, replicas=2), quiet=True
).run_id
first.close()

# --8<-- [start:reconnect]
exp = Experiment("reconnect", launcher="local")
run = exp.reconnect(run_id)
print(run.status().state, [row["state"] for row in run.results()])
# --8<-- [end:reconnect]
