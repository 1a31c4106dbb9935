"""HyperQueue through its Python interface: a server and one worker of two cores."""

import contextlib
import json
import os
import sys
import tempfile
import time

# The script's own folder must not shadow the package of its name.
sys.path.pop(0)
from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig

members = int(sys.argv[1])
printed = os.dup(1)
folder = tempfile.mkdtemp()
with contextlib.redirect_stdout(sys.stderr), LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()
    job = Job()
    for i in range(members):
        job.program(["/bin/true"], stdout=f"{folder}/{i}.out", stderr=f"{folder}/{i}.err")
    start = time.perf_counter()
    submitted = client.submit(job)
    enqueued = time.perf_counter()
    client.wait_for_jobs([submitted])
    end = time.perf_counter()
line = json.dumps({"members_per_s": members / (end - start), "enqueue_per_s": members / (enqueued - start)})
os.write(printed, f"{line}\n".encode())
