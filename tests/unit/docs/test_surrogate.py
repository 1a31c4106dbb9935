"""The demo's surrogate and its picture, without a database."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from taskensemble.demo.plate import COARSE, Plate, coarsen, simulate

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def archive() -> bytes:
    from taskensemble.demo.surrogate import train

    return train(runs=8, epochs=120)[0]


def test_the_surrogate_beats_the_guess_that_nothing_changes(archive: bytes) -> None:
    from taskensemble.demo.surrogate import PREPARE

    model, script = torch.jit.load(io.BytesIO(archive)), torch.jit.CompilationUnit(PREPARE)
    early, final, _ = simulate(Plate(temperature=100.0, diffusivity=30.0))
    features = script.prepare(torch.from_numpy(early), torch.tensor([30.0]))
    assert features.shape == (1, 1 + COARSE * COARSE)
    predicted = model(features)[0].detach().numpy()
    nothing = np.sqrt(np.mean((coarsen(early) - coarsen(final)) ** 2))
    assert np.sqrt(np.mean((predicted - coarsen(final)) ** 2)) < 0.5 * nothing


def test_the_picture_is_a_png_of_every_member(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from taskensemble.demo.picture import Outcome, draw

    random = np.random.default_rng(1)
    outcomes = [
        Outcome(
            f"plate_{i}",
            t,
            d,
            random.uniform(20, t, (64, 64)),
            random.uniform(20, t, (32, 32)),
            0.1 * i,
            i % 2,
            i,
            i + 1,
        )
        for i, (t, d) in enumerate([(80.0, 12.0), (80.0, 23.0), (120.0, 12.0), (120.0, 23.0)])
    ]
    picture = draw(outcomes, tmp_path / "plate.png", ((75, 125), (10, 20)), {12.0: "carbon steel"})
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
