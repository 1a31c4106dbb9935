"""SmartSim 0.8 on one machine: an ensemble of replicas, no orchestrator, so none of its database has to be built.

It starts a few members a second, one after the other, and looks at them once in its polling interval (a second here, the least it
takes; ten by default), so it is given at most 60 members.
"""

import json
import os
import sys
import tempfile
import time

# The script's own folder must not shadow the package of its name.
sys.path.pop(0)
os.environ["SMARTSIM_LOG_LEVEL"] = "quiet"
os.environ["SMARTSIM_JM_INTERVAL"] = "1"

from smartsim import Experiment

members = min(60, int(sys.argv[1]))
folder = tempfile.mkdtemp()
experiment = Experiment("peer", exp_path=folder, launcher="local")
settings = experiment.create_run_settings("/bin/true")
ensemble = experiment.create_ensemble("member", run_settings=settings, replicas=members)
start = time.perf_counter()
experiment.start(ensemble, block=False)
enqueued = time.perf_counter()
experiment.poll(interval=1, verbose=False)
end = time.perf_counter()
print(json.dumps({"members_per_s": members / (end - start), "enqueue_per_s": members / (enqueued - start)}))
