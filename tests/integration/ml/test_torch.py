from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from taskensemble.ai import Client  # noqa: E402
from taskensemble.ml import TrainingDataUploader  # noqa: E402
from taskensemble.ml.torch import (  # noqa: E402
    DataLoader,
    DynamicDataGenerator,
    StaticDataGenerator,
    export_model,
    freeze_model,
    script_model,
    trace_model,
)


def feed(batches: range) -> None:
    up = TrainingDataUploader("data", cluster=False)
    up.batch_idx = batches.start
    for i in batches:
        samples = np.arange(4 * i, 4 * i + 4, dtype=np.float32)[:, None]
        up.put_batch(samples, 3 * samples + 1)


def generator(kind: type = StaticDataGenerator, **arguments: object) -> StaticDataGenerator:
    defaults = {"data_info_or_list_name": "data", "cluster": False, "batch_size": 2, "wait_interval": 0.05}
    return kind(**(defaults | arguments))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_every_sample_once(client: Client, workers: int) -> None:
    feed(range(6))
    loader = DataLoader(generator(), num_workers=workers)
    for _ in range(2):
        seen = []
        for samples, targets in loader:
            assert isinstance(samples, torch.Tensor)
            assert torch.equal(targets, 3 * samples + 1)
            seen += samples.ravel().tolist()
        assert sorted(seen) == list(range(24))


def test_a_dynamic_generator_sees_what_comes_later(client: Client) -> None:
    feed(range(1))
    growing = DataLoader(generator(DynamicDataGenerator, dynamic=False))
    assert sum(1 for _ in growing) == 2
    feed(range(1, 3))
    assert sum(1 for _ in growing) == 6


def test_a_model_is_trained_while_the_data_appears(client: Client) -> None:
    feed(range(1))
    producer = threading.Thread(target=feed, args=(range(1, 4),))
    producer.start()
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    loader = DataLoader(generator(DynamicDataGenerator))
    for _ in range(80):
        for samples, targets in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(samples / 10), targets / 10)
            loss.backward()
            optimizer.step()
    producer.join()
    assert loss.item() < 0.05


class Branching(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(x) * 2 if bool(x.sum() > 0) else self.drop(x)


@pytest.mark.parametrize("how", ["trace", "script", "export", "file"])
def test_a_serialized_model_runs_in_the_database(client: Client, how: str, tmp_path: Path) -> None:
    linear = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5))
    example = torch.zeros(2, 3)
    blob = {
        "trace": lambda: trace_model(linear, example),
        "script": lambda: script_model(linear),
        "export": lambda: export_model(linear, example),
        "file": lambda: Path(freeze_model(linear, str(tmp_path), "linear", example)).read_bytes(),
    }[how]()
    assert linear.training
    client.set_model("m", blob, "TORCH")
    x = np.random.default_rng(1).random((5, 3)).astype(np.float32)
    client.put_tensor("x", x)
    client.run_model("m", "x", "y")
    linear.eval()
    assert np.allclose(client.get_tensor("y"), linear(torch.from_numpy(x)).detach().numpy(), atol=1e-5)


def test_a_scripted_model_keeps_its_branches(client: Client) -> None:
    client.set_model("m", script_model(Branching()), "TORCH")
    for sign, factor in ((1, 2), (-1, 1)):
        client.put_tensor("x", np.full((1, 2), sign, np.float32))
        client.run_model("m", "x", "y")
        assert client.get_tensor("y").tolist() == [[sign * factor] * 2]
