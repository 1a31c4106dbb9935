"""A device whose memory is apart, as a GPU's is: also what repeats of a run read must be brought there."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

# On this "device" every number is a DOUBLE, so an output tells whether its input had been brought there.
WORKER = """
import sys
import torch
from workers.inference import loop
from workers.inference.torch_backend import TorchBackend

class Apart(TorchBackend):
    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.placed = torch.Tensor.double

    def native(self, tensor):
        return super().native(tensor).double()

loop.serve([sys.argv[1]], Apart(), loop.Options("TORCH", "GPU:0", poll=200))
"""


SCRIPT = """
def three(tensors: List[Tensor], keys: List[str], args: List[str]):
    return 3 * tensors[0]
"""


class Twice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Both(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * x, -x


def archive(module: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    return buffer.getvalue()


def test_repeats_of_models_and_scripts_compute_on_the_device(start: Callable[..., Any]) -> None:
    server = start()
    worker = subprocess.Popen([sys.executable, "-c", WORKER, f"unix://{server.folder / 's'}"])
    try:
        wait_for(server)
        server("AI.MODELSTORE", "twice", "TORCH", "GPU:0", "BLOB", archive(Twice()))
        server("AI.MODELSTORE", "both", "TORCH", "GPU:0", "BLOB", archive(Both()))
        server("AI.SCRIPTSTORE", "s", "GPU:0", "ENTRY_POINTS", 1, "three", "SOURCE", SCRIPT)
        for i in range(6):  # the first run teaches, those after it are repeats
            server.put("x", np.array([i, 1], np.float32))
            server("AI.MODELEXECUTE", "twice", "INPUTS", 1, "x", "OUTPUTS", 1, "a")
            server("AI.MODELEXECUTE", "both", "INPUTS", 1, "x", "OUTPUTS", 2, "b", "c")
            server("AI.SCRIPTEXECUTE", "s", "three", "INPUTS", 1, "x", "OUTPUTS", 1, "d")
            for key, factor in (("a", 2), ("b", 2), ("c", -1), ("d", 3)):
                found = server.get(key)
                assert found.dtype == np.float64, (key, i)
                assert found.tolist() == [factor * i, factor]
    finally:
        worker.terminate()
        worker.wait(30)


def wait_for(server: Any) -> None:
    deadline = time.monotonic() + 60
    while not server.workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
