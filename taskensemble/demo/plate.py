"""Heat conduction in a square plate: the equation, and an explicit solver.

The temperature u(x, y, t) of a thin plate of uniform diffusivity a follows Fourier's heat equation

    du/dt = a (d2u/dx2 + d2u/dy2)

(J. Fourier, Théorie analytique de la chaleur, 1822). Here two discs are held at the heaters' temperature, the lower edge is
cooled to AMBIENT, and no heat passes the three other edges. The plate begins at AMBIENT.

The solver is forward Euler in time and the five-point stencil in space on cell centres, which is stable for
dt <= h^2 / (4 a) (R. J. LeVeque, Finite Difference Methods for Ordinary and Partial Differential Equations, SIAM 2007,
chapter 9). Its error is of first order in dt and of second order in h; since dt follows h^2, halving h quarters both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
"""Temperatures at the cell centres, degrees Celsius; row 0 is the lower edge."""

AMBIENT = 20.0
"""Where the plate begins and what its lower edge keeps, degrees Celsius."""

HEATERS = ((0.32, 0.62, 0.11), (0.72, 0.40, 0.07))
"""Centre (x, y) and radius of each heater, in sizes of the plate."""

SAFETY = 0.9
"""The time step as a share of the largest stable one."""


EARLY = 0.1
"""The surrogate looks at the plate when this share of the simulated time has passed."""

COARSE = 32
"""Cells along an edge of what the surrogate sees and predicts."""


@dataclass(frozen=True)
class Plate:
    """One set-up: what a member's input file says."""

    temperature: float
    """Of the heaters, degrees Celsius."""
    diffusivity: float
    """Of the material, mm^2/s: 12 carbon steel, 23 iron, 34 brass, 97 aluminium."""
    size: float = 100.0
    """Length of an edge, mm."""
    cells: int = 128
    """Grid cells along an edge."""
    duration: float = 8.0
    """Simulated time, s."""

    def __post_init__(self) -> None:
        for name in ("diffusivity", "size", "cells", "duration"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: give a number above 0")

    @property
    def spacing(self) -> float:
        """Width of a grid cell, mm."""
        return self.size / self.cells

    def held(self) -> NDArray[np.bool_]:
        """Which cells keep the temperature that they begin with: the heaters and the cooled edge."""
        centres = (np.arange(self.cells) + 0.5) / self.cells
        x, y = np.meshgrid(centres, centres)
        cells = self.heated(x, y)
        cells[0, :] = True
        return cells

    def begin(self) -> Field:
        """The field at time 0."""
        centres = (np.arange(self.cells) + 0.5) / self.cells
        field = np.full((self.cells, self.cells), AMBIENT)
        field[self.heated(*np.meshgrid(centres, centres))] = self.temperature
        return field

    @staticmethod
    def heated(x: Field, y: Field) -> NDArray[np.bool_]:
        """Which points lie on a heater; x and y in sizes of the plate."""
        return np.asarray(np.any([(x - cx) ** 2 + (y - cy) ** 2 <= r**2 for cx, cy, r in HEATERS], axis=0))


def read(text: str) -> Plate:
    """The set-up that an input file describes.

    Parameters:
        text: lines `name = value`, with the names of Plate's fields; `#` begins a comment.

    Raises:
        ValueError: a line is no setting, its name is unknown, or its value is no number.
    """
    settings: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name, found, value = (part.strip() for part in line.partition("#")[0].partition("="))
        if not name and not found:
            continue
        if name not in Plate.__dataclass_fields__:
            known = ", ".join(Plate.__dataclass_fields__)
            raise ValueError(f"line {number}: {name!r} is no setting of a plate; write one of {known}")
        settings[name] = float(value)
    return Plate(**{**settings, "cells": int(settings.get("cells", Plate.cells))})  # type: ignore[arg-type]


def diffuse(
    field: Field, held: NDArray[np.bool_], diffusivity: float, spacing: float, duration: float
) -> tuple[Field, int]:
    """Let heat flow for some time; no heat passes the edges, except into held cells.

    Parameters:
        field: temperatures at the start, shape (ny, nx).
        held: cells that keep their temperature, same shape.
        diffusivity: mm^2/s.
        spacing: width of a cell, mm.
        duration: s; 0 returns the field as it is.

    Returns:
        The temperatures at the end, and the number of time steps.
    """
    steps = math.ceil(duration * 4 * diffusivity / (SAFETY * spacing**2))
    if steps == 0:
        return field.copy(), 0
    factor = diffusivity * (duration / steps) / spacing**2
    # One ghost cell around the field mirrors its edge: a zero gradient, so no flux.
    padded = np.pad(field, 1, mode="edge")
    inner, change = padded[1:-1, 1:-1], np.empty_like(field)
    weight = np.where(held, 0.0, factor)
    for _ in range(steps):
        padded[0], padded[-1] = padded[1], padded[-2]
        padded[:, 0], padded[:, -1] = padded[:, 1], padded[:, -2]
        np.add(padded[:-2, 1:-1], padded[2:, 1:-1], out=change)
        change += padded[1:-1, :-2]
        change += padded[1:-1, 2:]
        change -= 4 * inner
        change *= weight
        inner += change
    return inner.copy(), steps


def simulate(plate: Plate) -> tuple[Field, Field, int]:
    """The field when the surrogate looks, the field at the end, and the number of time steps."""
    held = plate.held()
    early, first = diffuse(plate.begin(), held, plate.diffusivity, plate.spacing, EARLY * plate.duration)
    final, second = diffuse(early, held, plate.diffusivity, plate.spacing, (1 - EARLY) * plate.duration)
    return early, final, first + second


def coarsen(field: Field) -> Field:
    """The means over blocks of cells, shape (COARSE, COARSE); the field's shape is a multiple of it."""
    rows, columns = (length // COARSE for length in field.shape)
    return np.asarray(field.reshape(COARSE, rows, COARSE, columns).mean(axis=(1, 3)))
