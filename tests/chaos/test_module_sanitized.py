"""The AI module, built with AddressSanitizer and UndefinedBehaviorSanitizer: its whole suite, and a long fuzz.

`TASKENSEMBLE_FUZZ_COMMANDS` sets the length of the fuzz, 1,000,000 commands without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "integration" / "ai"
SOURCES = Path(__file__).parents[2] / "taskensemble" / "ai" / "module"
ROUND = 20_000

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc and its sanitizers are needed")


def _runtime(name: str) -> str:
    return subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which the tests of the module use a sanitized build of it."""
    folder = tmp_path_factory.mktemp("sanitized")
    module, loader = folder / "taskensemble_ai.so", folder / "nodeepbind.so"
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-fPIC", "-shared"]
    subprocess.run(
        ["gcc", *flags, "-fvisibility=hidden", *map(str, SOURCES.glob("*.c")), "-o", str(module)], check=True
    )
    subprocess.run(["gcc", "-shared", "-fPIC", str(HERE / "nodeepbind.c"), "-o", str(loader)], check=True)
    preload = " ".join([str(loader), _runtime("libasan.so"), _runtime("libubsan.so")])
    return {"TASKENSEMBLE_AI_MODULE": str(module), "TASKENSEMBLE_TEST_PRELOAD": preload}


@pytest.mark.timeout(1800)
def test_the_modules_suite_passes_under_the_sanitizers(sanitized: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--timeout", "300", "-p", "no:cacheprovider", str(HERE)]
    result = subprocess.run(command, env={**os.environ, **sanitized}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:]


def test_the_quick_way_of_the_inference_workers_passes_its_tests_under_the_sanitizers(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    library = tmp_path / "quick.so"
    flags = ["-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    source = root / "workers" / "inference" / "quick.c"
    subprocess.run(
        ["gcc", *flags, "-fPIC", "-shared", "-fvisibility=hidden", str(source), "-o", str(library)], check=True
    )
    environment = {
        "TASKENSEMBLE_TEST_QUICK": str(library),
        "LD_PRELOAD": " ".join([_runtime("libasan.so"), _runtime("libubsan.so")]),
        # Python's own allocator hides what is next to what; what Python itself keeps until its end is no leak of ours.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    tests = root / "tests" / "unit" / "inference" / "test_quick.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", str(tests)]
    result = subprocess.run(
        command, env={**os.environ, **environment}, cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]


@pytest.fixture
def _environment(sanitized: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in sanitized.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in ("conftest", "fuzz"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("_environment")
@pytest.mark.timeout(7200)
def test_a_million_random_commands_find_nothing(tmp_path: Path) -> None:
    import conftest
    import fuzz

    total = int(os.environ.get("TASKENSEMBLE_FUZZ_COMMANDS", "1000000"))
    for seed in range(1000, 1000 + -(-total // ROUND)):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        database = conftest.Database(
            folder,
            "--enable-debug-command",
            "yes",
            "--appendonly",
            "yes",
            module=("MAX_TENSOR_BYTES", "1000000", "WORKER_GRACE", "500"),
        )
        try:
            database.start()
            database.supervisor("TORCH/CPU/2", "TF/CPU/1")
            client = database.client()
            client.execute_command("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1")
            fuzz.fuzz(str(database.socket), seed, ROUND)
            fuzz.fuzz_results(client, str(database.socket), seed, 500)
            client.flushall()
            conftest.until(lambda client=client: client.info("modules")["ai_blocked_requests"] == 0)
        finally:
            database.stop()
