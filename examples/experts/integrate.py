"""An expert that is slow and right: the period of a pendulum from the arithmetic-geometric mean.

The period of a pendulum of length l let go at the angle a is 2 pi sqrt(l / g) / M(1, cos(a / 2)), where M is the
arithmetic-geometric mean (C. F. Gauss; see D. A. Cox, The arithmetic-geometric mean of Gauss, 1984).
"""

import sys

import numpy as np

from taskensemble.ai import Client


def period(angle: np.ndarray) -> np.ndarray:
    """Periods for angles in radians, in units of the small pendulum's 2 pi sqrt(l / g)."""
    a, b = np.ones_like(angle), np.cos(angle / 2)
    for _ in range(8):
        a, b = (a + b) / 2, np.sqrt(a * b)
    return 1 / a


if __name__ == "__main__":
    angles = np.linspace(0.1, float(sys.argv[1]), 30)
    client = Client()
    client.put_tensor("angles", angles)
    client.put_tensor("periods", period(angles))
