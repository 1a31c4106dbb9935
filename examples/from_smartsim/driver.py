"""A driver as it was written for SmartSim: nothing in it knows of taskensemble.

usage: driver.py [port of the database]
"""

import sys

from smartsim import Experiment
from smartsim.settings import RunSettings

exp = Experiment("legacy", launcher="local")
db = exp.create_database(
    port=int(sys.argv[1]) if len(sys.argv) > 1 else 6780, interface="lo"
)

settings = RunSettings("python", exe_args="member.py")
ensemble = exp.create_ensemble(
    "member",
    params={"THERMO": [10, 20, 30]},
    run_settings=settings,
    perm_strategy="step",
)
ensemble.attach_generator_files(
    to_copy=["member.py"], to_configure=["member.in"]
)
ensemble.add_script(
    "double", script="def double(x):\n    return x * 2\n", device="CPU"
)

exp.generate(db, ensemble, overwrite=True)
exp.start(db, block=True)
exp.start(ensemble, block=True, summary=False)
print(exp.get_status(ensemble))
exp.stop(db)
print(exp.summary(style="plain"))
