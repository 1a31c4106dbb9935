"""Members that write the same names, kept apart by prefixes; a consumer that reads them all."""

import sys
from pathlib import Path

from taskensemble import Experiment

exp = Experiment("collisions", launcher="local")
db = exp.create_database(port=0)
writer = exp.create_run_settings(
    exe=sys.executable, exe_args=str(Path("writer.py").resolve())
)
reader = exp.create_run_settings(
    exe=sys.executable, exe_args=str(Path("reader.py").resolve())
)

# --8<-- [start:prefix]
producers = exp.create_ensemble("producer", run_settings=writer, replicas=2)
consumer = exp.create_model("consumer", reader, depends_on=producers)
for producer in producers:
    consumer.register_incoming_entity(producer)
exp.start(db, producers, consumer, block=True, summary=True)
# --8<-- [end:prefix]
print(exp.results(consumer)[0]["result"])
exp.stop(db)
