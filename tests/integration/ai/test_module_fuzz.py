"""Random commands against the module, in the short form that every build runs; `tests/chaos` has the long one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz import fuzz, fuzz_results


@pytest.mark.parametrize("seed", [1, 2])
def test_the_server_survives_random_commands_and_answers_only_resp(start: Callable[..., Any], seed: int) -> None:
    database = start("--enable-debug-command", "yes", "--appendonly", "yes", module=("MAX_TENSOR_BYTES", "1000000"))
    database.supervisor("TORCH/CPU/2", "TF/CPU/1")
    database.client().execute_command("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1")
    seen = fuzz(str(database.socket), seed, 5000)
    assert seen[b"+"] > 500
    assert seen[b"list"] > 100
    assert database.client().ping()


def test_damaged_result_frames_are_refused_and_never_believed(start: Callable[..., Any]) -> None:
    database = start()
    client = database.client()
    assert fuzz_results(client, str(database.socket), 1, 400) > 50
    assert client.ping()
