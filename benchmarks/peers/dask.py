"""Dask's distributed scheduler with two single-threaded workers; each member is a subprocess in a task."""

import json
import subprocess
import sys
import tempfile
import time

# The script's own folder must not shadow the package of its name.
sys.path.pop(0)
from distributed import Client, LocalCluster, wait


def member(folder: str, index: int) -> int:
    with open(f"{folder}/{index}.out", "wb") as out, open(f"{folder}/{index}.err", "wb") as err:
        return subprocess.run(["/bin/true"], stdout=out, stderr=err, check=False).returncode


def main() -> None:
    members = int(sys.argv[1])
    folder = tempfile.mkdtemp()
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.submit(member, folder, members).result()
        start = time.perf_counter()
        futures = client.map(member, [folder] * members, range(members), pure=False)
        enqueued = time.perf_counter()
        wait(futures)
        end = time.perf_counter()
    print(json.dumps({"members_per_s": members / (end - start), "enqueue_per_s": members / (enqueued - start)}))


if __name__ == "__main__":
    main()
