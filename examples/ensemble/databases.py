"""Two databases, each with an identifier."""

import sys
from pathlib import Path

from taskensemble import Experiment

exp = Experiment("databases", launcher="local")
program = exp.create_run_settings(
    sys.executable, str(Path("use_databases.py").resolve())
)
# --8<-- [start:two]
fields = exp.create_database(port=0, db_identifier="fields")
models = exp.create_database(port=0, db_identifier="models")
member = exp.create_model("member", program)
exp.start(fields, models, member, block=True)
# --8<-- [end:two]
print(exp.results(member)[0]["result"])
exp.stop(fields, models)
