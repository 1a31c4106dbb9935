"""An ensemble of experts: two programs that answer the same question, and a third that reads both.

Both experts write the same names, `angles` and `periods`. Key prefixes keep their data apart, and the consumer reads either by
naming its source. It starts when the ensemble has completed.
"""

import sys
from pathlib import Path

from taskensemble import Experiment

here = Path(__file__).resolve().parent


def program(script: str, *arguments: str):
    """How to run one of the scripts beside this file."""
    return exp.create_run_settings(
        exe=sys.executable, exe_args=[str(here / script), *arguments]
    )


exp = Experiment("pendulum", launcher="local")
db = exp.create_database(port=0, interface="lo")

experts = exp.create_ensemble(
    "experts", run_settings=program("integrate.py", "2.5"), replicas=1
)
experts.add_model(exp.create_model("series", program("series.py", "2.5")))
experts.enable_key_prefixing()

consumer = exp.create_model(
    "compare", program("compare.py"), depends_on=experts
)
for expert in experts:
    consumer.register_incoming_entity(expert)

exp.start(db, experts, consumer, block=True, summary=True)
(row,) = exp.results(consumer)
print(
    f"{' and '.join(row['result']['experts'])} agree up to {row['result']['agree_until']:.2f} rad"
)
exp.stop(db)
