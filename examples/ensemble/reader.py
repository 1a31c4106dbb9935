"""A consumer: reads each producer by naming it as the source."""

import json
import os
from pathlib import Path

from taskensemble.ai import Client

# --8<-- [start:read]
client = Client()
answers = {}
for source in os.environ["SSKEYIN"].split(","):
    client.set_data_source(source)
    answers[source] = float(client.get_tensor("answer")[0])
# --8<-- [end:read]
Path("result.json").write_text(json.dumps(answers))
