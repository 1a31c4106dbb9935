"""Inside an allocation: `salloc -N 2 python inside.py`, and no other command."""

from taskensemble import Experiment

# --8<-- [start:driver]
exp = Experiment("inside", launcher="slurm")
narrow = exp.create_run_settings("/bin/hostname")
wide = exp.create_run_settings("/bin/hostname")
wide.set_nodes(2)
wide.set_tasks(4)
small = exp.create_ensemble("small", replicas=8, run_settings=narrow)
large = exp.create_model("large", wide)
exp.start(small, large, summary=True)
# --8<-- [end:driver]
print(exp.get_status(large, small))
