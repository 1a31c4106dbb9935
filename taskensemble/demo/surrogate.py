"""The surrogate: a small network that sees a plate early and says how it will look at the end.

Its input is what `prepare.txt` makes: the logarithm of the diffusivity and the early field on COARSE x COARSE cells. Its output
is the final field on the same cells. It learns from runs of the very solver that the members run.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from taskensemble.demo.plate import COARSE, Plate, coarsen, simulate

TEMPERATURES = (75.0, 125.0)
"""Range of the training runs, degrees Celsius."""

DIFFUSIVITIES = (10.0, 70.0)
"""Range of the training runs, mm^2/s."""

PREPARE = Path(__file__).with_name("prepare.txt").read_text()
"""Source of the TorchScript that prepares the input."""


class Surrogate(nn.Module):  # type: ignore[misc]  # torch is followed by no type checker here
    """A perceptron with two hidden layers that predicts how the field changes.

    The change is proportional to the warmth of the plate, because the heat equation is linear; the network learns the rest.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        cells = COARSE * COARSE
        self.layers = nn.Sequential(
            nn.Linear(1 + cells, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, cells)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, 1 + COARSE^2) -> final fields (batch, COARSE, COARSE), degrees Celsius."""
        early = features[:, 1:]
        peak = early.amax(dim=1, keepdim=True)
        change = self.layers(torch.cat([features[:, :1], early / peak], dim=1))
        return (20.0 + 100.0 * (early + peak * change)).reshape(-1, COARSE, COARSE)


def training_runs(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Simulate plates over the training ranges: diffusivities evenly in their logarithm, temperatures at random.

    Returns:
        Prepared inputs (count, 1 + COARSE^2) and final fields (count, COARSE, COARSE).
    """
    script = torch.jit.CompilationUnit(PREPARE)
    random = np.random.default_rng(seed)
    features, finals = [], []
    for diffusivity in np.geomspace(*DIFFUSIVITIES, count):
        plate = Plate(float(random.uniform(*TEMPERATURES)), float(diffusivity))
        early, final, _ = simulate(plate)
        features.append(script.prepare(torch.from_numpy(early), torch.tensor([plate.diffusivity])))
        finals.append(torch.from_numpy(coarsen(final)))
    return torch.cat(features), torch.stack(finals).float()


def train(runs: int = 20, epochs: int = 400) -> tuple[bytes, float]:
    """Train the surrogate, seconds on one core.

    Returns:
        The TorchScript archive that a database loads, and the root mean square error on the training runs, in kelvin.
    """
    torch.manual_seed(1)
    # The matrices are so small that threads would only wait for each other.
    torch.set_num_threads(1)
    features, finals = training_runs(runs)
    model = Surrogate()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    loss = torch.tensor(0.0)
    for _ in range(epochs):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(model(features), finals)
        loss.backward()
        optimiser.step()
        schedule.step()
    archive = io.BytesIO()
    with warnings.catch_warnings():
        # TorchScript archives are what AI databases load; torch marks the functions that write them as deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(model.eval(), features[:1]), archive)
    return archive.getvalue(), loss.item() ** 0.5
