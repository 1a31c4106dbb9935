"""The module on Debian's Redis, which has key specifications and jemalloc."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.module_on import check_module_on


def test_the_module_passes_its_tests_on_debians_redis() -> None:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("not installed: redis-server; run tests/system/install.sh")
    check_module_on(Path(server))
