"""One member at a time where a worker waits: prints [call to the child, child to the return] in seconds, a pair a start.

The child is `date +%s%N`, which tells when it ran; its own few hundred microseconds are inside both figures.
"""

import json
import statistics
import sys
import time
from pathlib import Path

from taskensemble import Experiment

pairs = []
with Experiment("warm") as exp:
    settings = exp.create_run_settings("/bin/date", exe_args=["+%s%N"])
    exp.start(exp.create_model("first", settings), quiet=True)
    for number in range(int(sys.argv[1])):
        model = exp.create_model(f"model_{number}", settings)
        called = time.time()
        exp.start(model, quiet=True)
        returned = time.time()
        child = int((Path(model.path) / f"{model.name}.out").read_text()) / 1e9
        pairs.append((child - called, returned - child))
print(json.dumps([statistics.median(column) for column in zip(*pairs, strict=True)]))
