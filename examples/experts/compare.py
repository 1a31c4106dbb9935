"""The consumer: reads what each expert wrote under the same names, and says up to which angle they agree."""

import json
import os
from pathlib import Path

import numpy as np

from taskensemble.ai import Client

client = Client()
periods = {}
for expert in os.environ["SSKEYIN"].split(","):
    client.set_data_source(expert)
    angles, periods[expert] = (
        client.get_tensor("angles"),
        client.get_tensor("periods"),
    )
first, second = periods.values()
agree = np.abs(first - second) < 1e-3
until = float(angles[-1] if agree.all() else angles[np.argmin(agree)])
Path("result.json").write_text(
    json.dumps({"experts": list(periods), "agree_until": until})
)
