"""A ball thrown straight up through air: how high does it come?"""

import json
from pathlib import Path

settings = dict(line.split("=") for line in Path("ball.in").read_text().split())
speed, drag = float(settings["speed"]), float(settings["drag"])

height, highest, step = 0.0, 0.0, 1e-4
while speed > 0:
    speed -= (9.81 + drag * speed**2) * step
    height += speed * step
    highest = max(highest, height)
Path("result.json").write_text(json.dumps({"height": highest}))
