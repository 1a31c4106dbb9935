"""A member that runs one model, and tells where its database is."""

import json
import os
from pathlib import Path

import numpy as np

from taskensemble.ai import Client

client = Client()
client.put_tensor("rows", np.array([[1.0, 2.0, 3.0]], dtype=np.float32))
client.run_model("mean", ["rows"], ["average"])
result = {
    "average": float(client.get_tensor("average")[0]),
    "socket": os.environ["SSDB"].startswith("unix://"),
}
Path("result.json").write_text(json.dumps(result))
