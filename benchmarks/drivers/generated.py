"""A large ensemble with files: expansion, `generate`, `start(block=False)`, memory. Prints one JSON object, in seconds and MiB.

`members` members of a product of three parameters, each with a folder, a copied and a linked file, and a configured one.
"""

import json
import sys
import time
from pathlib import Path

from taskensemble import Experiment

size = int(sys.argv[1])
Path("in.plate").write_text("thermo = ;THERMO;\nsteps = ;STEPS;\nseed = ;SEED;\n" + "comment line\n" * 20)
Path("copied.txt").write_text("as it is\n")
Path("linked.dat").write_bytes(bytes(1 << 16))
found: dict[str, float] = {}
with Experiment("generated", slots=1) as exp:
    cpu, begun = time.process_time(), time.perf_counter()
    ensemble = exp.create_ensemble(
        "e",
        params={"THERMO": list(range(size // 100)), "STEPS": list(range(10)), "SEED": list(range(10))},
        run_settings=exp.create_run_settings("/bin/sleep", exe_args=["1000"]),
    )
    ensemble.attach_generator_files(to_copy="copied.txt", to_symlink="linked.dat", to_configure="in.plate")
    found["expanded"] = time.perf_counter() - begun
    exp.generate(ensemble)
    found["generated"] = time.perf_counter() - begun - found["expanded"]
    run = exp.start(ensemble, block=False, quiet=True)
    found["started"] = time.perf_counter() - begun - found["expanded"] - found["generated"]
    found["total"] = time.perf_counter() - begun
    found["cpu"] = time.process_time() - cpu
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    found["memory"] = int(line.split()[1]) / 1024
    assert run.record.size == size
    assert len(list(Path(exp.exp_path, "e").glob("*/e_*/in.plate"))) == size
    run.stop()
print(json.dumps(found))
