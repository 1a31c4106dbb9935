"""Retries, limits, dependencies: what happens around a member."""

import sys
from pathlib import Path

from taskensemble import Experiment

exp = Experiment("policies", launcher="local")
path = str(Path("simulate.py").resolve())

# --8<-- [start:retries]
flaky = exp.create_run_settings(
    exe=sys.executable, exe_args=[path, "--fail_until=1"]
)
retried = exp.create_ensemble(
    "retried", run_settings=flaky, replicas=2, retries=2, retry_delay=0.1
)
exp.start(retried, block=True)
print([(row["state"], row["attempt"]) for row in exp.results(retried)])
# --8<-- [end:retries]

# --8<-- [start:walltime]
slow = exp.create_run_settings(exe="/bin/sleep", exe_args="600")
limited = exp.create_ensemble(
    "limited", run_settings=slow, replicas=2, walltime=0.5, grace=2
)
exp.start(limited, block=True)
print([(row["state"], row["reason"]) for row in exp.results(limited)])
# --8<-- [end:walltime]

# --8<-- [start:failures]
broken = exp.create_run_settings(exe="/bin/false")
stopped = exp.create_ensemble(
    "stopped", run_settings=broken, replicas=50, on_failure=3
)
exp.start(stopped, block=True)
states = [row["state"] for row in exp.results(stopped)]
print({state: states.count(state) for state in sorted(set(states))})
# --8<-- [end:failures]

# --8<-- [start:resources]
program = exp.create_run_settings(exe=sys.executable, exe_args=path)
wide = exp.create_ensemble(
    "wide",
    run_settings=program,
    replicas=2,
    resources={"cpus": 2, "memory": "512M", "time": "00:10:00"},
)
exp.start(wide, block=True)
# --8<-- [end:resources]

# --8<-- [start:depends]
first = exp.create_ensemble("first", run_settings=program, replicas=2)
then = exp.create_model("then", program, depends_on=first)
exp.start(first, then, block=True)
# --8<-- [end:depends]
print([str(status) for status in exp.get_status(wide, first, then)])

# --8<-- [start:resume]
script = 'case "$TASKENSEMBLE_MEMBER" in *_1) test -e tried || { touch tried; exit 1; } ;; esac'
fragile = exp.create_run_settings(exe="/bin/sh", exe_args=["-c", script])
partly = exp.create_ensemble("partly", run_settings=fragile, replicas=3)
run = exp.start(partly, block=True)
print(run.status().failed, "failed")
resumed = exp.resume(run.run_id)
print(resumed.wait(timeout=120).completed, "completed after all")
# --8<-- [end:resume]
