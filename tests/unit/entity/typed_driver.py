"""A driver that uses the whole surface of descriptions: never run, only checked by test_types.py."""

import sys
from pathlib import Path

import numpy as np

from taskensemble import Experiment
from taskensemble.entity import Resources


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
