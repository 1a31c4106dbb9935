"""What can be said of the manual without building it: its code comes from files that run, and its diagram from the code."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "decisions" not in page.parts and "clusters" not in page.parts)
OTHERS = {"inference-protocol.md", "ai-database.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OTHERS], ids=lambda page: page.name)
def test_every_block_of_python_or_c_is_included_from_a_file(page: Path) -> None:
    blocks = re.findall(r"^( *)```(?:python|c)\n(.*?)^\1```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    written = [body for _, body in blocks if not re.fullmatch(r'\s*--8<-- "examples/[^"]+"\s*', body)]
    assert not written


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_included_section_exists(page: Path) -> None:
    for file, section in re.findall(r'--8<-- "([^":]+)(?::(\w+))?"', page.read_text()):
        text = (ROOT / file).read_text()
        if section:
            assert f"--8<-- [start:{section}]" in text
            assert f"--8<-- [end:{section}]" in text


def test_every_example_has_a_readme_and_a_line_in_the_manual() -> None:
    table = (DOCS / "examples.md").read_text()
    for folder in (ROOT / "examples").iterdir():
        if folder.is_dir() and not folder.name.startswith((".", "_")):
            assert (folder / "README.md").exists(), folder.name
            assert f"`{folder.name}/`" in table, folder.name


@pytest.fixture(scope="module")
def parts() -> dict[str, tuple[str, ...]]:
    sys.path.insert(0, str(DOCS))
    try:
        import diagrams
    finally:
        sys.path.remove(str(DOCS))
    return {part.path: part.imports for part in diagrams.PARTS}


def test_every_part_of_the_architecture_diagram_is_in_the_code_and_imports_what_it_says(
    parts: dict[str, tuple[str, ...]],
) -> None:
    for path, imports in parts.items():
        assert (ROOT / path).exists(), path
        imported = _imported(ROOT / path)
        for needed in imports:
            module = needed.removesuffix(".py").replace("/", ".")
            assert any(name == module or name.startswith(module + ".") for name in imported), (
                f"{path} does not import {module}"
            )


def test_every_package_is_in_the_architecture_diagram(parts: dict[str, tuple[str, ...]]) -> None:
    found = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "taskensemble").glob("*/__init__.py")}
    assert found - set(parts) == set()


def test_every_place_that_the_architecture_page_names_is_there() -> None:
    table = (DOCS / "architecture.md").read_text().partition("## Where is what")[2].partition("\n## ")[0]
    places = re.findall(r"`([\w/]+(?:/|\.py|\.lua))`", table)
    assert len(places) > 30
    missing = [place for place in places if not ((ROOT / place).exists() or (ROOT / "taskensemble" / place).exists())]
    assert not missing


def test_nothing_in_the_package_imports_the_workers(parts: dict[str, tuple[str, ...]]) -> None:
    for path in parts:
        if path != "workers":
            assert not [name for name in _imported(ROOT / path) if name.split(".")[0] == "workers"], path


def _imported(path: Path) -> set[str]:
    """Absolute names that the files below a path import, or `from package import module`."""
    names: set[str] = set()
    for file in [path] if path.is_file() else path.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names
