"""A driver that uses the whole surface: never run, only checked by test_types.py."""

import sys
from collections.abc import Generator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from taskensemble import Experiment
from taskensemble.ai import Client, ConfigOptions, Dataset
from taskensemble.entity import Database, Resources
from taskensemble.errors import AssetError, TaskensembleError
from taskensemble.ml import DataDownloader, DataInfo, TrainingDataUploader
from taskensemble.settings import SbatchSettings, SrunSettings
from taskensemble.wlm import slurm


def mine(names: list[str], values: list[list[str]], n_models: int) -> list[dict[str, str]]:
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)][: n_models or None]


exp = Experiment("whole", launcher="local")
settings = exp.create_run_settings(sys.executable, ["simulate.py"], env_vars={"A": "1"})
settings.add_exe_args("--fast")
database = exp.create_database(port=6780, interface="lo", db_identifier="d")
database.set_cpus(2)
model = exp.create_model(
    "m",
    settings,
    {"x": 1, "y": [1.0, 2.0]},
    enable_key_prefixing=True,
    params_as_args="x",
    retries=2,
    retry_on={75},
    resources={"cpus": 2, "tags": ["fat"]},
    walltime="00:10:00",
    warn_before=30,
)
model.attach_generator_files(to_copy="a", to_symlink=["b", Path("c")], to_configure=Path("d"), tag="@")
model.colocate_db_tcp(port=6780, ifname="lo", db_cpus=1, custom_pinning=[range(2), 3], maxclients=10)
model.colocate_db_uds(db_cpus=1)
ensemble = exp.create_ensemble(
    "e", {"T": [95, 100], "k": np.linspace(0, 1, 3)}, run_settings=settings, replicas=2, depends_on=model
)
drawn = exp.create_ensemble("l", {"T": (90.0, 110.0)}, run_settings=settings, perm_strategy="sobol", n_models=8, seed=1)
own = exp.create_ensemble("o", {"T": [1, 2]}, run_settings=settings, perm_strategy=mine, resources=Resources(cpus=1))
table = exp.create_ensemble(
    "t", ["A", "B"], run_settings=settings, samples=np.zeros((3, 2)), params_as_args=["A"], on_failure=3
)
ensemble.add_ml_model("cnn", "TORCH", b"x", device="GPU", devices_per_node=2, inputs="in", outputs=["out"])
ensemble.add_script("s", script="code")
ensemble.add_function("f", mine)
ensemble.add_model(exp.create_model("extra", settings))
ensemble.register_incoming_entity(model)
for member in ensemble:
    member.register_incoming_entity(member)
    print(member.name, member.params["T"], member.path)
print(ensemble["e_0"].db_models, len(ensemble), ensemble.models[0].type, ensemble.attached_files_table)
exp.generate(ensemble, overwrite=True)
handle = exp.start(database, ensemble, drawn, own, table, model, block=True, summary=True)
print(handle.run_id, exp.get_status(ensemble), exp.summary(), exp.preview(ensemble), exp.finished(ensemble))
exp.stop(database)

batch = exp.create_batch_settings(nodes=2, time="01:00:00", queue="q", account="a", batch_args={"exclusive": None})
batch.add_preamble(["module load cuda"])
sbatch, srun = SbatchSettings(nodes=1), SrunSettings("/bin/true", run_args={"exclusive": None})
srun.set_tasks(4)
srun.set_walltime("00:10:00")
srun.make_mpmd(SrunSettings("/bin/true"))
grown = exp.create_ensemble("grown", batch_settings=batch)
first = exp.create_ensemble(
    settings, replicas=2, walltime=timedelta(hours=1), enough=1, on_failure="stop", retry_delay=1, retries=1
)
model.add_ml_model(
    "m", "TF", model_path=Path("m.pb"), device="CPU", batch_size=8, min_batch_size=2, min_batch_timeout=5, tag="t", inputs=["x"],
    outputs="y",
)  # fmt: skip
model.disable_key_prefixing()
prefixing: bool = model.query_key_prefixing()
for asset in (*model.db_models, *model.db_scripts):
    print(asset.name, asset.device, asset.is_file)

# Starting, watching, coming back

try:
    run = exp.start(first, block=False, kill_on_interrupt=False, together=True, quiet=True)
except AssetError as error:
    raise SystemExit(str(error)) from error
except TaskensembleError:
    raise
print(run.wait(timeout=5.0).completed, run.status().state, run.finished(), [state for _, state in run.states()])
exp.poll(interval=1, verbose=False)
exp.poll(first)
rows: list[dict[str, Any]] = exp.results(first)
frame = exp.results(frame=True)
for row in run.results():
    print(row["params"], row["returncode"], row["result"])
text: str = exp.preview(first, verbosity_level="debug", output_format="json", output_filename="p.json")
table_text: str = exp.summary(style="plain")
again = exp.reconnect(run.run_id)
resumed = exp.resume(run.run_id, block=False)
run.stop(timeout=10)
attached: Database = exp.attach_database("redis://localhost:6379", "theirs")
reconnected: Database = exp.reconnect_orchestrator(attached.checkpoint_file)
address: list[str] = reconnected.get_address()
reconnected.set_db_conf("maxmemory", "1gb")
identifiers: set[str] = exp.db_identifiers


def rounds() -> Generator[list[Mapping[str, Any]], list[dict[str, Any]], None]:
    found = yield [{"x": 1.0}, {"x": 2.0}]
    while found and found[0]["state"] == "Completed":
        found = yield [{"x": found[0]["result"]["best"]}]


adaptive = exp.start_adaptive(model, rounds(), block=False)
adaptive = exp.reconnect(adaptive.run_id, generator=rounds(), model=model)
last = adaptive.wait(quiet=True)
print(last.state if last is not None else "nothing", len(adaptive.rounds), adaptive.results())
with Experiment("other", exp_path=Path(), launcher="auto", slots=2, export_env=["HOME"]) as other:
    other.start(other.create_model("m", settings))
allocation: str = slurm.get_allocation(nodes=2, time="00:10:00", options={"exclusive": None})
slurm.release_allocation(allocation)

# Clients and training data

client = Client(False, address=address[0])
named = Client(ConfigOptions.create_from_environment("theirs"))
client.put_tensor("x", np.zeros(3))
dataset = Dataset("d")
dataset.add_tensor("x", np.zeros(3))
client.put_dataset(dataset)
information = DataInfo("data", num_classes=2)
TrainingDataUploader("data", cluster=False).put_batch(np.zeros((2, 2)), np.zeros(2))
downloader = DataDownloader(data_info_or_list_name=information, cluster=False, batch_size=2)
