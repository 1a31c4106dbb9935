"""From a login node: an ensemble in a batch job of its own."""

from taskensemble import Experiment

# --8<-- [start:driver]
exp = Experiment("sweep", launcher="slurm", interface="lo")
job = exp.create_batch_settings(
    nodes=2, time="00:10:00", batch_args={"exclusive": None}, requeue=1
)
job.add_preamble("export OMP_PROC_BIND=true")
program = exp.create_run_settings(
    "/bin/sh", ["-c", "echo $SLURM_NTASKS ranks on $SLURM_JOB_NODELIST"]
)
program.set_tasks(2)
sweep = exp.create_ensemble(
    "sweep", replicas=6, run_settings=program, batch_settings=job
)
exp.start(sweep, summary=True)
# --8<-- [end:driver]
print(exp.get_status(sweep))
