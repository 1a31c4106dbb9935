"""ML assets of ensembles on every kind of database, and databases beside members: real servers, real inference workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskensemble import Experiment, Status
from taskensemble.ai import Client
from taskensemble.entity import Ensemble
from taskensemble.errors import AssetError, UnsupportedError
from tests.integration.experiment.drivers import eventually

torch = pytest.importorskip("torch")
MAKER = Path(__file__).parents[2] / "compat" / "make_models.py"
SPELLINGS = {
    "linear.pt": ("TORCH", "Pt"),
    "linear.onnx": ("ONNX", "onnx"),
    "linear.pb": ("TF", "tf"),
    "linear.tflite": ("TFLITE", "tf-lite", "TF_Lite"),
}
NEEDED = {"linear.onnx": "onnxruntime", "linear.pb": "tensorflow", "linear.tflite": "ai_edge_litert"}
"""What a worker of a backend needs besides torch."""

USE = """
import json, os, sys
import numpy as np
from taskensemble.ai import Client
client = Client(os.environ["SR_DB_TYPE"] == "Clustered")
client.put_tensor("x", np.arange(12, dtype=np.float32).reshape(4, 3))
found = {"SSDB": os.environ["SSDB"]}
for name in sys.argv[1:]:
    if name.startswith("script"):
        client.run_script(name, "half", ["x"], ["y"])
    else:
        client.run_model(name, inputs=["x"], outputs=["y"])
    found[name] = client.get_tensor("y").sum(1).tolist()
json.dump(found, open("result.json", "w"))
"""
LINEAR = [5.0, 14.0, 23.0, 32.0]
SOURCE = "def half(x):\n    return x / 2\n"


def half(x: torch.Tensor) -> torch.Tensor:
    return x / 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for backend in ("torch", "onnx", "tensorflow"):
        subprocess.run([sys.executable, str(MAKER), backend, str(folder)], check=True, timeout=200)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "use.py").write_text(USE)
    return tmp_path


def users(exp: Experiment, folder: Path, names: list[str], replicas: int = 2, name: str = "users") -> Ensemble:
    program = exp.create_run_settings(sys.executable, [str(folder / "use.py"), *names])
    return exp.create_ensemble(name, replicas=replicas, run_settings=program)


def available(models: Path) -> Iterator[Path]:
    from importlib.util import find_spec

    for name in SPELLINGS:
        if (models / name).exists() and (name not in NEEDED or find_spec(NEEDED[name])):
            yield models / name


def add_everything(ensemble: Any, models: Path, folder: Path) -> list[str]:
    """Every backend under each of its names, from memory and from a file; scripts and functions in each form."""
    names = []
    for path in available(models):
        nodes: dict[str, Any] = {}
        if path.suffix == ".pb":
            inputs, outputs = path.with_suffix(".pb.names").read_text().split()
            nodes = {"inputs": inputs, "outputs": [outputs]}
        for number, backend in enumerate(SPELLINGS[path.name]):
            name = f"{path.suffix[1:]}_{number}"
            content: dict[str, Any] = {"model": path.read_bytes()} if number else {"model_path": str(path)}
            ensemble.add_ml_model(name, backend, **content, **nodes, device="CPU")
            names.append(name)
    (folder / "half.py").write_text(SOURCE)
    ensemble.add_script("script_text", script=SOURCE)
    ensemble.add_script("script_file", script_path=folder / "half.py", device="cpu")
    ensemble.add_function("script_function", half)
    ensemble.add_function("script_string", SOURCE)
    ensemble.add_function("script_scripted", torch.jit.script(half))
    return [*names, "script_text", "script_file", "script_function", "script_string", "script_scripted"]


def check(rows: list[dict[str, Any]], names: list[str]) -> None:
    assert [row["state"] for row in rows] == ["Completed"] * len(rows), [row["reason"] for row in rows]
    for row in rows:
        for name in names:
            expected = [1.5, 6.0, 10.5, 15.0] if name.startswith("script") else LINEAR
            assert row["result"][name] == pytest.approx(expected), name


def test_every_backend_runs_under_each_of_its_names_from_memory_and_from_a_file(
    exp: Experiment, models: Path, folder: Path
) -> None:
    ensemble = users(exp, folder, [])
    names = add_everything(ensemble, models, folder)
    assert len(names) >= 7
    # Members get their arguments only now, when the names are known; a member added later has the assets as well.
    for member in ensemble:
        assert member.run_settings is not None
        member.run_settings.add_exe_args(names)
    late = exp.create_model("late", exp.create_run_settings(sys.executable, [str(folder / "use.py"), *names]))
    ensemble.add_model(late)
    handle = exp.start(exp.create_database(port=0), ensemble, quiet=True)
    assert handle.status().completed == 3
    check(exp.results(ensemble), names)


def test_all_ten_arguments_of_a_model_are_what_the_database_knows_of_it(
    exp: Experiment, models: Path, folder: Path
) -> None:
    ensemble = users(exp, folder, ["net"], replicas=1)
    ensemble.add_ml_model(
        "net", "TORCH", None, str(models / "linear.pt"), "CPU", 1, 0, batch_size=8, min_batch_size=2,
        min_batch_timeout=20, tag="v1", inputs=None, outputs=None,
    )  # fmt: skip
    for wrong in ({"devices_per_node": 2}, {"first_device": 1}):
        with pytest.raises(UnsupportedError, match=next(iter(wrong))):
            ensemble.add_ml_model("other", "TORCH", b"x", **wrong)
    database = exp.create_database(port=0)
    exp.start(database, ensemble, quiet=True)
    check(exp.results(ensemble), ["net"])
    import redis

    host, port = database.get_address()[0].split(":")
    with redis.Redis(host, int(port)) as server:
        reply = server.execute_command("AI.MODELGET", "net", "META")
    told = dict(zip(reply[::2], reply[1::2], strict=True))
    assert (told[b"backend"], told[b"device"], told[b"tag"]) == (b"TORCH", b"CPU", b"v1")
    assert (told[b"batchsize"], told[b"minbatchsize"], told[b"minbatchtimeout"]) == (8, 2, 20)


def test_assets_are_on_every_shard_of_a_cluster(exp: Experiment, models: Path, folder: Path) -> None:
    ensemble = users(exp, folder, ["net", "script"])
    ensemble.add_ml_model("net", "ONNX", model_path=models / "linear.onnx")
    ensemble.add_script("script", SOURCE)
    database = exp.create_database(port=0, db_nodes=3)
    exp.start(database, ensemble, quiet=True)
    check(exp.results(ensemble), ["net", "script"])
    assert len(database.get_address()) == 3


def test_an_asset_of_one_member_is_there_for_it_and_a_bad_one_starts_none(
    exp: Experiment, models: Path, folder: Path
) -> None:
    ensemble = users(exp, folder, ["net"])
    ensemble[1].add_ml_model("net", "TORCH", model_path=models / "linear.pt")
    ensemble[0].run_settings = exp.create_run_settings("/bin/true")
    exp.start(exp.create_database(port=0), ensemble, quiet=True)
    check(exp.results(ensemble)[1:], ["net"])
    wrong = users(exp, folder, [], name="wrong")
    wrong[1].add_ml_model("net_wrong", "ONNX", model=b"no model")
    with pytest.raises(AssetError, match="net_wrong"):
        exp.start(wrong, quiet=True)
    assert exp.get_status(wrong) == [Status.CANCELLED] * 2


def test_an_attached_database_is_given_the_assets_and_is_found_by_its_checkpoint(
    exp: Experiment, models: Path, folder: Path
) -> None:
    (folder / "theirs").mkdir()
    with Experiment("owner", folder / "theirs") as owner:
        theirs = owner.create_database(port=0)
        owner.start(theirs)
        ours = exp.attach_database(f"redis://{theirs.get_address()[0]}")
        ensemble = users(exp, folder, ["net"])
        ensemble.add_ml_model("net", "TORCH", model_path=models / "linear.pt")
        exp.start(ensemble, quiet=True)
        check(exp.results(ensemble), ["net"])
        (folder / "later").mkdir()
        with Experiment("later", folder / "later") as later:
            again = later.reconnect_orchestrator(ours.checkpoint_file)
            assert again.get_address() == theirs.get_address()
            assert Client(False, address=again.get_address()[0]).model_exists("net")
            later.stop(again)
        exp.stop(ours)
        assert theirs.is_active()


# Colocated databases

BESIDE = """
import json, os, sys, time
import redis
address = os.environ["SSDB"]
server = redis.Redis(unix_socket_path=address.removeprefix("unix://")) if address.startswith("unix") else \\
    redis.Redis.from_url("redis://" + address)
pid = server.info("server")["process_id"]
with open("../here_" + os.environ["TASKENSEMBLE_MEMBER"], "w") as mine:
    mine.write(address)
deadline = time.monotonic() + 60
while len([name for name in os.listdir("..") if name.startswith("here_")]) < int(sys.argv[1]):
    assert time.monotonic() < deadline
    time.sleep(0.02)
folder = os.path.dirname(address.removeprefix("unix://"))
mode = oct(os.stat(folder).st_mode & 0o777) if address.startswith("unix") else ""
found = {"address": address, "pid": pid, "cpus": sorted(os.sched_getaffinity(pid)), "mode": mode}
json.dump(found, open("result.json", "w"))
"""


def beside(exp: Experiment, folder: Path, replicas: int = 2) -> Ensemble:
    (folder / "beside.py").write_text(BESIDE)
    program = exp.create_run_settings(sys.executable, [str(folder / "beside.py"), str(replicas)])
    return exp.create_ensemble("beside", replicas=replicas, run_settings=program)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def run(exp: Experiment, ensemble: Ensemble) -> list[dict[str, Any]]:
    exp.start(ensemble, quiet=True)
    rows = exp.results(ensemble)
    assert [row["state"] for row in rows] == ["Completed"] * len(rows), [row["reason"] for row in rows]
    found = [row["result"] for row in rows]
    eventually(lambda: all(ended(each["pid"]) for each in found), what="the end of the databases")
    return found


@pytest.mark.parametrize("transport", ["tcp", "uds", "chosen socket"])
@pytest.mark.parametrize("prefixing", [True, False])
def test_members_share_a_colocated_database_only_with_prefixes_and_it_ends_with_them(
    exp: Experiment, folder: Path, transport: str, prefixing: bool
) -> None:
    ensemble = beside(exp, folder)
    if not prefixing:
        for member in ensemble:
            member.disable_key_prefixing()
    if transport == "tcp":
        # One port for all: the first has it, each other one gets a free one.
        ensemble.colocate_db_tcp(port=free_port())
    elif transport == "uds":
        ensemble.colocate_db_uds()
    else:
        ensemble.colocate_db_uds(unix_socket=str(folder / "chosen.socket"))
    found = run(exp, ensemble)
    assert len({each["address"] for each in found}) == (1 if prefixing else 2)
    for each in found:
        assert each["address"].startswith("127.0.0.1:" if transport == "tcp" else "unix:///")
        if transport == "uds":
            path = each["address"].removeprefix("unix://")
            assert path.startswith("/tmp/")
            assert len(path) < 60
            # Members' own permissions of the socket (0755) matter to nobody else: only its owner comes into the folder.
            assert each["mode"] == "0o700"
            eventually(lambda path=path: not os.path.exists(path), what="the end of a socket")  # type: ignore[misc]
    eventually(lambda: not (folder / "chosen.socket").exists(), what="the end of the chosen socket")


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


USABLE = sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("keywords", "cpus"),
    [
        ({"db_cpus": 1}, 1 if len(USABLE) > 1 else len(USABLE)),
        ({"custom_pinning": [USABLE[-1]]}, [USABLE[-1]]),
        ({"custom_pinning": [range(USABLE[0], USABLE[0] + 1)]}, [USABLE[0]]),
        ({"custom_pinning": []}, USABLE),
        ({"db_cpus": len(USABLE) + 1}, USABLE),
    ],
)
def test_a_colocated_database_keeps_to_its_cpus(
    exp: Experiment, folder: Path, keywords: dict[str, Any], cpus: int | list[int]
) -> None:
    ensemble = beside(exp, folder, replicas=1)
    ensemble.colocate_db_uds(**keywords)
    (found,) = run(exp, ensemble)
    assert (len(found["cpus"]) if isinstance(cpus, int) else found["cpus"]) == cpus


def test_assets_and_functions_in_memory_are_in_a_colocated_database_before_the_program(
    exp: Experiment, models: Path, folder: Path
) -> None:
    names = ["net", "lite", "script"]
    ensemble = users(exp, folder, names)
    ensemble.colocate_db_tcp(port=0)
    ensemble.add_ml_model("net", "onnx", model=(models / "linear.onnx").read_bytes())
    ensemble.add_ml_model("lite", "tf_lite", model_path=models / "linear.tflite")
    ensemble.add_function("script", half)
    exp.start(ensemble, quiet=True)
    check(exp.results(ensemble), names)


def test_a_member_with_other_assets_has_a_colocated_database_of_its_own(
    exp: Experiment, models: Path, folder: Path
) -> None:
    ensemble = users(exp, folder, ["net"])
    ensemble.colocate_db_uds()
    ensemble.add_ml_model("net", "TORCH", model_path=models / "linear.pt")
    ensemble[1].add_script("script", SOURCE)
    assert ensemble[1].run_settings is not None
    ensemble[1].run_settings.add_exe_args("script")
    exp.start(ensemble, quiet=True)
    rows = exp.results(ensemble)
    check(rows[:1], ["net"])
    check(rows[1:], ["net", "script"])
    assert rows[0]["result"]["SSDB"] != rows[1]["result"]["SSDB"]


def test_a_cpu_that_this_machine_lacks_fails_the_run_by_name(exp: Experiment, folder: Path) -> None:
    ensemble = beside(exp, folder, replicas=1)
    ensemble.colocate_db_uds(custom_pinning=[4095])
    ensemble.add_script("script", SOURCE)
    with pytest.raises(AssetError, match="4095"):
        exp.start(ensemble, quiet=True)
