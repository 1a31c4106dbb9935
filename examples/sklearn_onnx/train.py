"""A scikit-learn regression of the drag of a sphere, as an ONNX model.

The data follow the formula of R. Clift and W. H. Gauvin (1970) for the drag coefficient C at the Reynolds number R:
C = 24/R (1 + 0.15 R^0.687) + 0.42 / (1 + 42500 R^-1.16).
"""

import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestRegressor


def drag(reynolds: np.ndarray) -> np.ndarray:
    """Drag coefficients of a sphere for Reynolds numbers of 0.1 to 2e5."""
    return 24 / reynolds * (1 + 0.15 * reynolds**0.687) + 0.42 / (
        1 + 42500 * reynolds**-1.16
    )


def train() -> bytes:
    """The ONNX model: log10 of the Reynolds number (n, 1), FLOAT, to log10 of the drag coefficient (n, 1), FLOAT."""
    x = np.random.default_rng(1).uniform(-1, 5, (2000, 1)).astype(np.float32)
    forest = RandomForestRegressor(
        n_estimators=30, max_depth=10, random_state=1
    )
    forest.fit(x, np.log10(drag(10.0 ** x[:, 0])))
    return to_onnx(forest, x[:1]).SerializeToString()
