"""What needs a GPU: `make test-gpu` on a machine that has one. Without one the first test fails and says so."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import torch

from taskensemble import Experiment
from taskensemble.ai import Client
from taskensemble.database import DatabaseOptions, free_port, start_database, stop_database

COUNT = torch.cuda.device_count()
TORCHSCRIPT = """
def normalise(x):
    return (x - x.mean()) / x.std()

def where(x):
    return torch.ones(1) * int(x.is_cuda)
"""


class OnGpu(torch.nn.Module):
    """Says with its second output whether it computed on a GPU."""

    def __init__(self, inside: int = 64, outside: int = 8) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(inside, outside)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.layer(x)
        return y, torch.ones(x.shape[0], 1, device=y.device) * int(y.is_cuda)


class Hungry(torch.nn.Module):
    """Asks for as many GiB as its input says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.empty([int(x[0]), 1 << 28], device=x.device)[:1, :1]


def archive(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    return buffer.getvalue()


def until(check: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true answer of `check`."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"nothing within {seconds} s"
        time.sleep(0.05)
    return answer


@contextlib.contextmanager
def database(folder: Path, **options: Any) -> Iterator[tuple[Client, Any, str]]:
    """A database: our client, a raw one, and its address."""
    record = start_database(DatabaseOptions(name="db", folder=folder, port=free_port(), **options))
    address = record.addresses[0]
    host, port = address.rsplit(":", 1)
    raw = redis.Redis(host, int(port), socket_timeout=120)
    try:
        yield Client(False, address=address), raw, address
    finally:
        raw.close()
        stop_database(record)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Any, str]]:
    with database(tmp_path_factory.mktemp("db")) as running:
        yield running


def test_this_machine_has_a_gpu_that_torch_can_use() -> None:
    assert COUNT, f"torch {torch.__version__} finds no GPU here; these tests need one and a torch built for it"


@pytest.mark.parametrize("device", ["GPU", "GPU:0", "gpu:0"])
def test_an_archive_computes_on_the_gpu_what_it_computes_in_process(db: Any, device: str) -> None:
    client, raw, _ = db
    module = OnGpu()
    x = np.random.default_rng(1).random((5, 64), np.float32)
    client.put_tensor("x", x)
    client.set_model("m", archive(module), "TORCH", device=device)
    client.run_model("m", inputs=["x"], outputs=["y", "where"])
    expected = module(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(client.get_tensor("y"), expected, rtol=1e-3, atol=1e-4)
    assert client.get_tensor("where").all()
    meta = raw.execute_command("AI.MODELGET", "m", "META")
    assert dict(zip(meta[::2], meta[1::2], strict=True))[b"device"].upper().startswith(b"GPU")


def test_an_exported_program_runs_on_the_gpu(db: Any) -> None:
    client, _, _ = db
    module = OnGpu().eval()
    exported = io.BytesIO()
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(module.layer, (torch.zeros(2, 64),), dynamic_shapes=shapes), exported)
    x = np.random.default_rng(2).random((3, 64), np.float32)
    client.put_tensor("x", x)
    client.set_model("program", exported.getvalue(), "TORCH", device="GPU:0")
    client.run_model("program", inputs=["x"], outputs=["y"])
    expected = module.layer(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(client.get_tensor("y"), expected, rtol=1e-3, atol=1e-4)


def test_scripts_run_on_the_gpu_with_every_type_and_size(db: Any) -> None:
    client, _, _ = db
    client.set_script("s", TORCHSCRIPT, device="GPU")
    for dtype in (np.float32, np.float64):
        for elements in (16, 1 << 20):
            x = np.random.default_rng(3).random(elements).astype(dtype)
            client.put_tensor("x", x)
            client.run_script("s", "normalise", ["x"], ["y"])
            np.testing.assert_allclose(client.get_tensor("y"), (x - x.mean()) / x.std(ddof=1), rtol=1e-3, atol=1e-3)
    client.run_script("s", "where", ["x"], ["w"])
    assert client.get_tensor("w")[0] == 1


def test_smartredis_calls_for_several_gpus_use_those_that_are_there(db: Any) -> None:
    client, _, _ = db
    module = OnGpu()
    client.put_tensor("x", np.ones((1, 64), np.float32))
    client.set_model_multigpu("multi", archive(module), "TORCH", first_gpu=0, num_gpus=COUNT)
    client.set_script_multigpu("multi_script", TORCHSCRIPT, first_gpu=0, num_gpus=COUNT)
    for rank in range(3):
        client.run_model_multigpu("multi", rank, 0, COUNT, ["x"], [f"y{rank}", f"w{rank}"])
        client.run_script_multigpu("multi_script", "where", ["x"], [f"s{rank}"], rank, 0, COUNT)
        assert client.get_tensor(f"w{rank}").all()
        assert client.get_tensor(f"s{rank}")[0] == 1
    with pytest.raises(Exception, match="GPU"):
        client.set_model_multigpu("more", archive(module), "TORCH", first_gpu=0, num_gpus=COUNT + 1)


def test_a_gpu_that_is_not_there_is_an_error_when_the_model_is_stored(db: Any) -> None:
    _, raw, _ = db
    with pytest.raises(redis.ResponseError, match="GPU"):
        raw.execute_command("AI.MODELSTORE", "far", "TORCH", f"GPU:{COUNT}", "BLOB", archive(OnGpu()))
    assert raw.exists("far") == 0


def test_one_graph_computes_on_processor_and_gpu(db: Any) -> None:
    client, raw, _ = db
    client.set_model("near", archive(torch.nn.Linear(64, 64)), "TORCH", device="CPU")
    client.set_model("far", archive(OnGpu()), "TORCH", device="GPU")
    x = np.ones((1, 64), np.float32).tobytes()
    replies = raw.execute_command(
        *("AI.DAGEXECUTE", "ROUTING", "near"),
        *("|>", "AI.TENSORSET", "x", "FLOAT", 1, 64, "BLOB", x),
        *("|>", "AI.MODELEXECUTE", "near", "INPUTS", 1, "x", "OUTPUTS", 1, "z"),
        *("|>", "AI.MODELEXECUTE", "far", "INPUTS", 1, "z", "OUTPUTS", 2, "y", "where"),
        *("|>", "AI.TENSORGET", "where", "VALUES"),
    )
    assert float(replies[-1][0]) == 1.0
    assert raw.exists("z") == 0


def test_batches_of_many_clients_give_each_its_own_rows(db: Any) -> None:
    client, _, address = db
    module = OnGpu()
    client.set_model("batched", archive(module), "TORCH", device="GPU", batch_size=16)

    def one(number: int) -> bool:
        own = Client(False, address=address)
        for turn in range(20):
            x = np.full((1 + number % 3, 64), number + turn / 100, np.float32)
            own.put_tensor(f"x{number}", x)
            own.run_model("batched", inputs=[f"x{number}"], outputs=[f"y{number}", f"w{number}"])
            with torch.inference_mode():
                expected = module(torch.from_numpy(x))[0].numpy()
            np.testing.assert_allclose(own.get_tensor(f"y{number}"), expected, rtol=1e-3, atol=1e-2)
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(8)))


def test_a_model_that_wants_more_than_the_gpu_has_is_an_error_and_the_next_runs(db: Any) -> None:
    client, raw, _ = db
    client.set_model("hungry", archive(Hungry()), "TORCH", device="GPU")
    raw.execute_command("AI.TENSORSET", "gib", "FLOAT", 1, "VALUES", 4000)
    with pytest.raises(redis.ResponseError, match="memory"):
        raw.execute_command("AI.MODELEXECUTE", "hungry", "INPUTS", 1, "gib", "OUTPUTS", 1, "y")
    raw.execute_command("AI.TENSORSET", "gib", "FLOAT", 1, "VALUES", 1)
    assert raw.execute_command("AI.MODELEXECUTE", "hungry", "INPUTS", 1, "gib", "OUTPUTS", 1, "y") == b"OK"


def test_a_killed_worker_of_the_gpu_is_replaced_with_its_models(db: Any) -> None:
    client, raw, _ = db
    client.set_model("kept", archive(OnGpu()), "TORCH", device="GPU")
    client.put_tensor("x", np.ones((1, 64), np.float32))
    rows = [dict(zip(row[::2], row[1::2], strict=True)) for row in raw.execute_command("AI._WORKER", "LIST")]
    pids = [int(row[b"pid"]) for row in rows if row[b"device"].startswith(b"GPU")]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    client.run_model("kept", inputs=["x"], outputs=["y", "where"])
    assert client.get_tensor("where").all()


def test_a_worker_started_by_hand_serves_a_server_that_offers_no_gpu(tmp_path: Path) -> None:
    with database(tmp_path, gpus=0) as (client, raw, address):
        blob = archive(OnGpu())
        with pytest.raises(redis.ResponseError, match="GPU"):
            raw.execute_command("AI.MODELSTORE", "m", "TORCH", "GPU:0", "BLOB", blob)
        command = ["-m", "taskensemble", "inference-worker", "--db", address, "--backend", "TORCH", "--device", "GPU:0"]
        worker = subprocess.Popen([sys.executable, *command])
        try:
            until(lambda: b"GPU:0" in str(raw.execute_command("AI._WORKER", "LIST")).encode())
            client.set_model("m", blob, "TORCH", device="GPU:0")
            client.put_tensor("x", np.ones((1, 64), np.float32))
            client.run_model("m", inputs=["x"], outputs=["y", "where"])
            assert client.get_tensor("where").all()
        finally:
            worker.terminate()
            worker.wait(30)


def test_members_share_a_gpu_and_call_a_model_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    program = tmp_path / "member.py"
    program.write_text(
        "import json, os, sys\n"
        "import numpy as np, torch\n"
        "from taskensemble.ai import Client\n"
        "client = Client(False)\n"
        "here = (torch.ones(4, device='cuda') * 2).sum().item()\n"
        "client.put_tensor('x', np.ones((1, 64), np.float32))\n"
        "client.run_model('m', inputs=['x'], outputs=['y', 'where'])\n"
        "result = {'here': here, 'there': float(client.get_tensor('where')[0, 0]),\n"
        "          'sees': os.environ['CUDA_VISIBLE_DEVICES'], 'cards': torch.cuda.device_count()}\n"
        "json.dump(result, open('result.json', 'w'))\n"
    )
    model = tmp_path / "m.pt"
    model.write_bytes(archive(OnGpu()))
    with Experiment("gpu", exp_path=str(tmp_path)) as exp:
        db = exp.create_database(port=free_port(), interface="lo")
        settings = exp.create_run_settings(sys.executable, exe_args=str(program))
        ensemble = exp.create_ensemble("share", run_settings=settings, replicas=4, resources={"gpus": 0.5})
        ensemble.add_ml_model("m", "TORCH", model_path=str(model), device="GPU")
        exp.start(db, ensemble, block=True, quiet=True)
        rows = [row["result"] for row in exp.results(ensemble)]
    assert rows == [{"here": 8.0, "there": 1.0, "sees": "0", "cards": 1}] * 4


def test_doctor_counts_the_gpus() -> None:
    command = [sys.executable, "-m", "taskensemble", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = next(row for row in json.loads(done.stdout) if row["subject"] == "GPUs")
    assert (said["verdict"], said["found"]) == ("ok", f"{COUNT} of NVIDIA")
