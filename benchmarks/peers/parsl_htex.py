"""Parsl's HighThroughputExecutor with two workers; each member is a bash app."""

import json
import sys
import tempfile
import time

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@parsl.bash_app
def member(stdout: str, stderr: str) -> str:  # noqa: ARG001 - Parsl reads both from the call
    return "/bin/true"


members = int(sys.argv[1])
folder = tempfile.mkdtemp()
executor = HighThroughputExecutor(
    label="htex",
    address="127.0.0.1",
    loopback_address="127.0.0.1",
    max_workers_per_node=2,
    provider=LocalProvider(init_blocks=1, max_blocks=1),
)
parsl.load(Config(executors=[executor], run_dir=f"{folder}/runinfo", usage_tracking=0))
member(stdout=f"{folder}/warm.out", stderr=f"{folder}/warm.err").result()
start = time.perf_counter()
futures = [member(stdout=f"{folder}/{i}.out", stderr=f"{folder}/{i}.err") for i in range(members)]
enqueued = time.perf_counter()
for future in futures:
    future.result()
end = time.perf_counter()
parsl.dfk().cleanup()
print(json.dumps({"members_per_s": members / (end - start), "enqueue_per_s": members / (enqueued - start)}))
