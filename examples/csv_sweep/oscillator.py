"""A damped oscillator m x'' + c x' + k x = 0 with x(0) = 1, x'(0) = 0, by the classical fourth-order Runge-Kutta method."""

import json
from pathlib import Path

STEP, END = 1e-3, 40.0
"""Seconds."""


def read(path: str) -> dict[str, float]:
    """The settings `name = value` of an input file."""
    lines = (
        line.partition("#")[0].partition("=")
        for line in Path(path).read_text().splitlines()
    )
    return {
        name.strip(): float(value) for name, equals, value in lines if equals
    }


def settle(mass: float, stiffness: float, damping: float) -> dict[str, float]:
    """The last time at which the oscillator was 5 % of its start away from rest, and how often it passed through rest."""

    def slope(x: float, v: float) -> tuple[float, float]:
        return v, -(stiffness * x + damping * v) / mass

    x, v, settled, passes = 1.0, 0.0, 0.0, 0
    for step in range(1, round(END / STEP) + 1):
        x1, v1 = slope(x, v)
        x2, v2 = slope(x + STEP / 2 * x1, v + STEP / 2 * v1)
        x3, v3 = slope(x + STEP / 2 * x2, v + STEP / 2 * v2)
        x4, v4 = slope(x + STEP * x3, v + STEP * v3)
        before, x = x, x + STEP / 6 * (x1 + 2 * x2 + 2 * x3 + x4)
        v += STEP / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        passes += (before > 0) != (x > 0)
        if abs(x) > 0.05:
            settled = step * STEP
    return {"settled_s": round(settled, 3), "passes": passes}


if __name__ == "__main__":
    Path("result.json").write_text(json.dumps(settle(**read("oscillator.in"))))
