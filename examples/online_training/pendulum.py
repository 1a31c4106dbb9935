"""A member: swings pendulums, uploads what they do, and asks the network as it learns.

A pendulum follows angle'' = -sin(angle) - friction * angle', here by the classical
fourth-order Runge-Kutta method. A sample is a state (angle, velocity), its target the state
STEP later. UPLOADS of them are training data; the simulation goes on until the trainer says that
it has learned enough.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from taskensemble.ai import Client
from taskensemble.ml import TrainingDataUploader

STEP, SUBSTEPS, PENDULUMS, UPLOADS = 0.25, 100, 128, 40
FRICTION = 0.2


def slope(state: np.ndarray) -> np.ndarray:
    """Time derivatives of states (n, 2)."""
    angle, velocity = state.T
    return np.stack([velocity, -np.sin(angle) - FRICTION * velocity], axis=1)


def advance(state: np.ndarray) -> np.ndarray:
    """The states STEP later."""
    h = STEP / SUBSTEPS
    for _ in range(SUBSTEPS):
        a = slope(state)
        b = slope(state + h / 2 * a)
        c = slope(state + h / 2 * b)
        state = state + h / 6 * (a + 2 * b + 2 * c + slope(state + h * c))
    return state


if __name__ == "__main__":
    random = np.random.default_rng(int(sys.argv[1].removeprefix("--seed=")))
    client = Client()
    # --8<-- [start:upload]
    uploader = TrainingDataUploader(list_name="swings", cluster=False)
    uploader.publish_info()
    errors: list[float] = []
    windows = 0
    while not (errors and client.key_exists("trained")):
        before = random.uniform(-2, 2, (PENDULUMS, 2)).astype(np.float32)
        after = advance(before).astype(np.float32)
        windows += 1
        if windows <= UPLOADS:
            uploader.put_batch(before, after)
        # --8<-- [end:upload]
        if client.model_exists("flow"):
            client.put_tensor("before", before)
            client.run_model("flow", ["before"], ["predicted"])
            off = client.get_tensor("predicted") - after
            errors.append(float(np.sqrt(np.mean(off**2))))
    result = {
        "windows": windows,
        "first_error": errors[0],
        "last_error": errors[-1],
    }
    Path("result.json").write_text(json.dumps(result))
    print(os.environ["TASKENSEMBLE_MEMBER"], result)
