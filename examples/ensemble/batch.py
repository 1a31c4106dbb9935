"""The three ways to begin with batch settings: an allocation of a scheduler for the whole ensemble."""

from taskensemble import Experiment

# --8<-- [start:settings]
exp = Experiment("batch", launcher="slurm")
allocation = exp.create_batch_settings(
    nodes=2, time="00:30:00", queue="compute", account="climate"
)
program = exp.create_run_settings(
    exe="/bin/echo", exe_args="hello", run_command="srun"
)
program.set_tasks(4)
# --8<-- [end:settings]

# --8<-- [start:empty]
mixed = exp.create_ensemble("mixed", batch_settings=allocation)
mixed.add_model(exp.create_model("ocean", program))
mixed.add_model(exp.create_model("ice", program))
# --8<-- [end:empty]

# --8<-- [start:params]
sweep = exp.create_ensemble(
    "sweep",
    params={"THERMO": [95, 100, 105]},
    run_settings=program,
    batch_settings=allocation,
)
# --8<-- [end:params]

# --8<-- [start:replicas]
copies = exp.create_ensemble(
    "copies", replicas=4, run_settings=program, batch_settings=allocation
)
# --8<-- [end:replicas]

# --8<-- [start:preview]
exp.preview(mixed, sweep, copies)
# --8<-- [end:preview]
print([len(ensemble) for ensemble in (mixed, sweep, copies)])
