"""A Keras convolutional network that the members call: trained here, serialised in memory, run in the database.

It counts the blobs in a picture. Each member makes pictures of its own and lets the network count.
"""

import sys
from pathlib import Path

import keras
from pictures import pictures

from taskensemble import Experiment
from taskensemble.ml.tf import serialize_model

# --8<-- [start:serialise]
keras.utils.set_random_seed(1)
network = keras.Sequential(
    [
        keras.layers.Input((16, 16, 1)),
        keras.layers.Conv2D(8, 5, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(1),
    ]
)
network.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
network.fit(*pictures(512, seed=0), epochs=15, batch_size=64, verbose=0)
model, inputs, outputs = serialize_model(network)
# --8<-- [end:serialise]

exp = Experiment("blobs", launcher="local")
db = exp.create_database(port=0, interface="lo")
program = exp.create_run_settings(
    exe=sys.executable, exe_args=str(Path("count.py").resolve())
)
ensemble = exp.create_ensemble(
    "blobs", params_as_args={"seed": [1, 2, 3, 4]}, run_settings=program
)
# --8<-- [start:add]
ensemble.add_ml_model(
    "counter", "TF", model=model, device="CPU", inputs=inputs, outputs=outputs
)
# --8<-- [end:add]
exp.start(db, ensemble, block=True, summary=True)
for row in exp.results(ensemble):
    print(
        f"{row['name']}: {row['result']['error']:.2f} blobs off on average, of {row['result']['blobs']:.2f}"
    )
exp.stop(db)
