"""A landscape with three valleys of one depth: F. H. Branin's function (1972). Its lowest points lie at 0.3979."""

import json
import math
from pathlib import Path

settings = dict(
    line.split(" = ") for line in Path("point.in").read_text().splitlines()
)
x, y = float(settings["along"]), float(settings["across"])
bend = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
Path("result.json").write_text(
    json.dumps(
        {"height": bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10}
    )
)
