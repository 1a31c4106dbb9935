"""Where benchmarks write: a folder that is deleted after the last figure, and nothing in it before.

ext4 does not use the number of a deleted file again for one to six minutes, and looks at all such numbers whenever it makes a
file. A round that deletes the files of the one before measures that: making a file took 18 us of CPU time in a fresh folder, and
550 us after a few thousand had been deleted beside it. So rounds leave their files, ours and the peers' alike.
"""

from __future__ import annotations

import atexit
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

VARIABLE = "TASKENSEMBLE_BENCH_SCRATCH"
"""Names the folder to the processes of a benchmark; the one that made it deletes it."""


def folder(prefix: str) -> Path:
    """A new folder for what a benchmark writes."""
    root = os.environ.get(VARIABLE)
    if root is None:
        root = os.environ[VARIABLE] = tempfile.mkdtemp(prefix="te-bench-")
        atexit.register(shutil.rmtree, root, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=root))


def file_cost() -> float:
    """Microseconds of CPU time that making a file takes here now: more than 50 says that many were deleted lately, so wait."""
    where, times = folder("file-"), []
    for number in range(300):
        begun = time.thread_time()
        (where / str(number)).touch()
        times.append(time.thread_time() - begun)
    return statistics.median(times) * 1e6
