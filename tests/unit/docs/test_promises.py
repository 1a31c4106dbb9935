"""Each promise names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TABLE = (ROOT / "docs" / "reliability.md").read_text().partition("## Which test shows which promise")[2]
NAMED = re.findall(r"`(tests/[^`]+)`", TABLE)


def test_the_table_names_tests_for_every_promise() -> None:
    rows = [line for line in TABLE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert all("`tests/" in row for row in rows)


@pytest.mark.parametrize("named", NAMED)
def test_a_named_test_exists(named: str) -> None:
    file, _, test = named.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    tests = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert tests
    assert not test or test in tests
