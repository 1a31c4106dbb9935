"""The oscillator that settles first, from all results below a folder: `collect.py <folder>`."""

import json
import sys
from pathlib import Path

found = {
    file.parent.name: json.loads(file.read_text())["settles_s"]
    for file in Path(sys.argv[1]).rglob("result.json")
}
best = min(found, key=found.__getitem__)
Path("result.json").write_text(
    json.dumps({"of": len(found), "best": best, "settles_s": found[best]})
)
