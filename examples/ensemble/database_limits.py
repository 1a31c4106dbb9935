"""A database's limits, a client in the driver, and a second experiment that uses the same database."""

import numpy as np

from taskensemble import Client, Experiment

exp = Experiment("limits", launcher="local")
# --8<-- [start:limits]
db = exp.create_database(port=0)
exp.start(db)
db.set_max_memory("2gb")
db.set_eviction_strategy("volatile-lru")
db.enable_checkpoints(300)
db.set_db_conf("maxclients", "2000")
# --8<-- [end:limits]

# --8<-- [start:client]
client = Client(cluster=False, address=db.get_address()[0])
client.put_tensor("reference", np.linspace(0.0, 1.0, 5))
print(client.get_tensor("reference"))
# --8<-- [end:client]

# --8<-- [start:attach]
other = Experiment("other", launcher="local")
shared = other.attach_database(db.get_address()[0])
# --8<-- [end:attach]
print(shared.is_active(), shared.get_address() == db.get_address())
other.stop(shared)
print(db.is_active())
exp.stop(db)
