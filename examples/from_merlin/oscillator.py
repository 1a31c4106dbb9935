"""How long x'' + c x' + k x = 0 takes to settle to 5 % of its start, by its exact envelope: `oscillator.py <k> <c>`."""

import json
import math
import sys
from pathlib import Path

stiffness, damping = float(sys.argv[1]), float(sys.argv[2])
# The slower root's real part is the rate at which what is left decays.
root = math.sqrt(max(0.0, damping**2 / 4 - stiffness))
Path("result.json").write_text(
    json.dumps({"settles_s": round(math.log(20) / (damping / 2 - root), 2)})
)
