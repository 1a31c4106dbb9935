"""Members that share GPUs, and members that want whole ones."""

from taskensemble import Experiment

exp = Experiment("gpus")
# --8<-- [start:resources]
program = exp.create_run_settings(
    "/bin/sh", ["-c", "echo $CUDA_VISIBLE_DEVICES"]
)
halves = exp.create_ensemble(
    "halves", replicas=8, run_settings=program, resources={"gpus": 0.5}
)
pair = exp.create_model(
    "pair", program, resources={"gpus": 2, "cpus": 8, "memory": "32G"}
)
# --8<-- [end:resources]
exp.preview(halves, pair, verbosity_level="debug")
