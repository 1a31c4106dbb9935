"""A member of an experiment with two databases: writes into one, finds nothing in the other."""

import json
from pathlib import Path

import numpy as np

# --8<-- [start:clients]
from taskensemble.ai import Client, ConfigOptions

fields = Client(ConfigOptions.create_from_environment("fields"))
models = Client(ConfigOptions.create_from_environment("models"))
# --8<-- [end:clients]
fields.put_tensor("x", np.arange(3.0))
result = {
    "fields": bool(fields.tensor_exists("x")),
    "models": bool(models.tensor_exists("x")),
}
Path("result.json").write_text(json.dumps(result))
