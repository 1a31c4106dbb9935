"""A member that runs every asset of assets.py in the database."""

import json
from pathlib import Path

import numpy as np

from taskensemble.ai import Client

# --8<-- [start:calls]
client = Client()
client.put_tensor("field", np.array([[1.0, 2.0, 3.0, 6.0]], dtype=np.float32))
client.run_script("scale", "scale", ["field"], ["scaled"])
client.run_model("mean", ["scaled"], ["average"])
print(client.get_tensor("average"))
# --8<-- [end:calls]
client.run_model("mean_of_file", ["scaled"], ["average_of_file"])
for script in ("shift", "scale_of_file"):
    client.run_script(
        script, script.removesuffix("_of_file"), ["field"], [script]
    )
results = {
    name: client.get_tensor(name).ravel().tolist()
    for name in ("average", "average_of_file", "shift", "scale_of_file")
}
Path("result.json").write_text(json.dumps(results))
