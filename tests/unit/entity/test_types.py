"""Types: a driver that uses the whole surface passes the strictest check."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_driver_of_the_whole_surface_passes_mypy_strict():
    root = HERE.parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", str(HERE / "typed_driver.py")],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=root,
        env=os.environ | {"MYPYPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
