"""A program as members run it: reads plate.in if there is one, does a little work, and writes result.json."""

import json
import os
import sys
import time
from pathlib import Path

settings = {}
if Path("plate.in").exists():
    lines = (
        line.partition("=")
        for line in Path("plate.in").read_text().splitlines()
    )
    settings = {
        name.strip(): float(value) for name, equals, value in lines if equals
    }
for argument in sys.argv[1:]:
    name, _, value = argument.removeprefix("--").partition("=")
    settings[name] = float(value)

time.sleep(settings.get("sleep", 0.0))
attempt = int(os.environ.get("TASKENSEMBLE_ATTEMPT", "1"))
if attempt <= settings.get("fail_until", 0):
    sys.exit(f"attempt {attempt} fails on purpose")
Path("result.json").write_text(
    json.dumps(
        {
            "warmth": settings.get("temperature", 0.0)
            * settings.get("steps", 1.0)
        }
    )
)
print("done after", attempt, "attempt" if attempt == 1 else "attempts")
