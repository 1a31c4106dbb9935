"""A producer: writes the names that every producer writes, and reads its own back."""

import os

import numpy as np

from taskensemble.ai import Client

client = Client()
client.put_tensor(
    "answer",
    np.array([float(os.environ["TASKENSEMBLE_MEMBER"].rpartition("_")[2])]),
)
print("I wrote", client.get_tensor("answer"))
