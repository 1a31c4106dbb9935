"""The module on the oldest server: no key specifications there, and fewer things that a module may ask for."""

from __future__ import annotations

from pathlib import Path

from module_on import check_module_on


def test_the_module_passes_its_tests_on_redis_6_2(redis_62: Path) -> None:
    check_module_on(redis_62)
