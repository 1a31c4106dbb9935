"""The demo's simulation against what is known of the heat equation."""

from __future__ import annotations

import re

import numpy as np
import pytest

from taskensemble.demo.plate import AMBIENT, COARSE, Plate, coarsen, diffuse, read, simulate


def test_a_sine_mode_decays_as_the_exact_solution_says() -> None:
    cells, diffusivity, duration = 65, 10.0, 5.0
    spacing = 100.0 / (cells - 1)
    x = np.linspace(0, 1, cells)
    mode = np.outer(np.sin(np.pi * x), np.sin(np.pi * x))
    held = np.ones((cells, cells), dtype=bool)
    held[1:-1, 1:-1] = False
    field, _ = diffuse(mode, held, diffusivity, spacing, duration)
    exact = mode * np.exp(-2 * np.pi**2 * diffusivity * duration / 100.0**2)
    assert np.abs(field - exact).max() < 1e-4


def test_an_insulated_plate_keeps_its_heat() -> None:
    field = np.random.default_rng(3).uniform(20, 120, (40, 40))
    later, steps = diffuse(field, np.zeros((40, 40), dtype=bool), 23.0, 2.5, 4.0)
    assert steps > 0
    assert later.mean() == pytest.approx(field.mean(), rel=1e-12)
    assert later.std() < field.std()


def test_heaters_and_the_cooled_edge_keep_their_temperature_and_nothing_leaves_that_range() -> None:
    plate = Plate(temperature=95.0, diffusivity=34.0, cells=64, duration=3.0)
    _, final, _ = simulate(plate)
    assert final[0].max() == final.min() == AMBIENT
    assert final.max() == 95.0
    assert AMBIENT < final.mean() < 95.0


def test_a_field_grows_in_proportion_to_the_heaters_warmth() -> None:
    _, cool, _ = simulate(Plate(temperature=60.0, diffusivity=23.0, cells=32))
    _, warm, _ = simulate(Plate(temperature=100.0, diffusivity=23.0, cells=32))
    np.testing.assert_allclose((warm - AMBIENT) / 2, cool - AMBIENT, atol=1e-9)


def test_coarsening_keeps_the_mean() -> None:
    field = np.random.default_rng(5).uniform(size=(96, 96))
    coarse = coarsen(field)
    assert coarse.shape == (COARSE, COARSE)
    assert coarse.mean() == pytest.approx(field.mean())


def test_an_input_file_becomes_a_plate() -> None:
    plate = read("# a plate\ntemperature = 95   # hot\n\ndiffusivity = 23\ncells = 64\n")
    assert plate == Plate(temperature=95.0, diffusivity=23.0, cells=64)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("temperature = 95\ndiffusivty = 2\n", "line 2: 'diffusivty'"),
        ("temperature = 95\ndiffusivity = 0\n", "diffusivity=0.0"),
        ("temperature = ;THERMO;\n", "THERMO"),
    ],
)
def test_a_wrong_input_file_is_refused_with_the_setting_that_is_wrong(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=re.escape(names)):
        read(text)
