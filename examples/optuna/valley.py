"""The program whose answer is to be small: H. Rosenbrock's valley (1960), f(x, y) = (1 - x)^2 + 100 (y - x^2)^2."""

import json
import sys
from pathlib import Path

arguments = dict(argument.removeprefix("--").split("=") for argument in sys.argv[1:])
x, y = float(arguments["along"]), float(arguments["across"])
Path("result.json").write_text(json.dumps({"height": (1 - x) ** 2 + 100 * (y - x * x) ** 2}))
