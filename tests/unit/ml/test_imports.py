from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["taskensemble.ai", "taskensemble.ml"])
def test_importing_a_client_imports_no_backend_and_no_queue(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'celery', 'kombu', 'onnxruntime', 'redis'} & sys.modules.keys()\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
