"""Members that share GPUs, and one that wants two whole ones: `taskensemble worker --slots 16 --gpus 0,1,2,3` gives them out."""

from pathlib import Path

from taskensemble import Experiment

exp = Experiment("gpus")
# --8<-- [start:resources]
program = exp.create_run_settings(
    "/bin/sh", ["-c", "echo $CUDA_VISIBLE_DEVICES; sleep 1"]
)
halves = exp.create_ensemble(
    "halves", replicas=8, run_settings=program, resources={"gpus": 0.5}
)
pair = exp.create_model(
    "pair", program, resources={"gpus": 2, "cpus": 8, "memory": "1G"}
)
exp.start(halves, pair)
# --8<-- [end:resources]
for member in [*halves, pair]:
    seen = Path(member.path, f"{member.name}.out").read_text().strip()
    print(f"{member.name} saw {seen}")
