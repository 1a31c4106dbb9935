"""A member of the demo: simulates its plate, and asks the surrogate in the database how it will end.

It reads `plate.in` in its folder, finds the database through its environment, and writes `result.json`. Run as a script.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from taskensemble.ai import Client
from taskensemble.demo.plate import coarsen, read, simulate


def main() -> None:
    """Simulate, predict, compare, report."""
    plate = read(Path("plate.in").read_text())
    began = time.monotonic()
    early, final, steps = simulate(plate)
    simulated = time.monotonic()

    client = Client()
    client.put_tensor("early", early.astype(np.float32))
    client.put_tensor("diffusivity", np.array([plate.diffusivity], dtype=np.float32))
    client.run_script("prepare", "prepare", ["early", "diffusivity"], ["features"])
    client.run_model("surrogate", ["features"], ["predicted"])
    predicted = client.get_tensor("predicted")[0]
    client.put_tensor("final", final.astype(np.float32))
    asked = time.monotonic()

    difference = predicted - coarsen(final)
    result = {
        "error_k": float(np.sqrt(np.mean(difference**2))),
        "worst_k": float(np.abs(difference).max()),
        "mean_c": float(final.mean()),
        "steps": steps,
        "simulate_s": simulated - began,
        "predict_s": asked - simulated,
    }
    Path("result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{steps} steps in {result['simulate_s']:.2f} s; the surrogate is {result['error_k']:.2f} K off")


if __name__ == "__main__":
    main()
