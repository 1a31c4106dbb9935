"""A sphere falls through water: its terminal velocity, with the drag from the model in the database."""

import json
import math
import sys
from pathlib import Path

import numpy as np

from taskensemble.ai import Client

GRAVITY, WATER, STEEL, VISCOSITY = 9.81, 1000.0, 7850.0, 1e-3
"""m/s^2, kg/m^3, kg/m^3, Pa s."""

diameter = float(sys.argv[1].removeprefix("--diameter="))
client = Client()
velocity, calls = 0.1, 0
while True:
    reynolds = WATER * velocity * diameter / VISCOSITY
    client.put_tensor(
        "reynolds", np.array([[math.log10(reynolds)]], dtype=np.float32)
    )
    client.run_model("drag", ["reynolds"], ["coefficient"])
    coefficient = 10 ** float(client.get_tensor("coefficient").ravel()[0])
    calls += 1
    # The balance of weight, buoyancy and drag; half of the way each time, so that the steps of the forest do not make it swing.
    balance = math.sqrt(
        4 / 3 * GRAVITY * diameter * (STEEL / WATER - 1) / coefficient
    )
    if abs(balance - velocity) < 0.01 * velocity or calls == 100:
        break
    velocity = (velocity + balance) / 2
Path("result.json").write_text(
    json.dumps({"velocity": velocity, "reynolds": reynolds, "calls": calls})
)
