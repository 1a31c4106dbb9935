"""Pictures with blobs in them."""

import numpy as np


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 16, 16, 1), FLOAT, and how many blobs each has (count, 1)."""
    random = np.random.default_rng(seed)
    blobs = random.integers(1, 6, count)
    rows, columns = np.mgrid[:16, :16]
    made = np.zeros((count, 16, 16, 1), dtype=np.float32)
    for picture, number in zip(made, blobs, strict=True):
        for y, x in random.uniform(2, 14, (number, 2)):
            picture[..., 0] += np.exp(
                -((rows - y) ** 2 + (columns - x) ** 2) / 2
            )
    return made, blobs[:, None].astype(np.float32)
