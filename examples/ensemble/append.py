"""Models of several programs in one ensemble."""

import sys

from taskensemble import Experiment

# --8<-- [start:append]
exp = Experiment("append", launcher="local")
exact = exp.create_run_settings(
    exe=sys.executable, exe_args=["-c", "print('the slow and exact expert')"]
)
quick = exp.create_run_settings(exe="/bin/echo", exe_args="the quick expert")

experts = exp.create_ensemble("experts", run_settings=exact, replicas=2)
experts.add_model(exp.create_model("quick", quick))
exp.start(experts, block=True, summary=True)
# --8<-- [end:append]
print([member.name for member in experts])
