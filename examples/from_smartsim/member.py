"""A member as it was written for SmartRedis. Only its import was changed; with the package
smartredis installed, `from smartredis import Client` does as well."""

from pathlib import Path

import numpy as np

from taskensemble.ai import Client

client = Client(cluster=False)
thermo = float(Path("member.in").read_text().split("=")[1])
client.put_tensor("x", np.array([thermo]))
client.run_script("double", "double", ["x"], ["y"])
assert client.get_tensor("y")[0] == 2 * thermo
print("doubled", thermo)
