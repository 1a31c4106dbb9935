"""The module's own tests on another server than Valkey's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_TESTS = Path(__file__).parent / "integration" / "ai"
_FILES = ("durability", "graphs", "models", "tensors")
"""Not the texts of errors, which servers quote in their own ways, and not what is long and has to do with workers alone."""


def check_module_on(server: Path) -> None:
    """Run the tests that depend on the server in a process of their own; its report is the failure's text."""
    files = [str(_TESTS / f"test_module_{name}.py") for name in _FILES]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--timeout",
        "120",
        *files,
    ]
    environment = {**os.environ, "TASKENSEMBLE_TEST_SERVER": str(server)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
