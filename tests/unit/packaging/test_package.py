"""What is built and what may import what, as their tools see it."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of this tree."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    build = (
        "import sys; sys.path.insert(0, 'packaging'); import build_backend; "
        f"print(build_backend.build_sdist({str(folder)!r}))"
    )
    copy = folder / "tree"
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False
    ).stdout.split("\0")
    if not listed[0]:
        pytest.skip("this is no clone: which files belong to the source is not known")
    for name in filter(None, listed):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True, timeout=120)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """The wheel that is built from the source distribution."""
    folder = source.parent
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_source_distribution_holds_the_repository_and_nothing_compiled(source: Path) -> None:
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    tree = source.parent / "tree"
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    # Dot files serve the repository itself; setuptools writes metadata of its own beside the sources.
    wanted = {name for name in files if not any(part.startswith(".") for part in Path(name).parts)}
    assert {name for name in wanted - inside if ".egg-info/" not in name} == set()
    assert [name for name in inside if name.endswith((".so", ".pyc", "te-guard"))] == []


def test_the_wheel_is_for_this_platform_and_any_python_3(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/WHEEL")]
        facts = Parser().parsestr(archive.read(name).decode())
    assert facts["Root-Is-Purelib"] == "false"
    assert facts["Tag"].startswith("py3-none-linux_")


def test_the_wheel_holds_the_compiled_programs_and_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        guard = archive.getinfo("taskensemble/guard/te-guard")
    assert guard.external_attr >> 16 & 0o111, "the guard can be executed"
    programs = {"taskensemble/ai/module/taskensemble_ai.so", "workers/inference/taskensemble_quick.so"}
    assert programs <= inside
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "taskensemble", "workers"], capture_output=True, text=True, check=True
    ).stdout.split()
    missing = {name for name in listed if (ROOT / name).exists() and not name.endswith(".gitignore")} - inside
    assert not missing


def test_imports_go_one_way() -> None:
    pytest.importorskip("importlinter")
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_lock_of_ci_has_the_constraints_versions_with_hashes_and_no_torch() -> None:
    entries = (ROOT / "requirements-ci.lock").read_text().replace("\\\n", "").splitlines()
    locked = set()
    for entry in entries:
        pin = entry.split()[0]
        assert "--hash=sha256:" in entry, f"{pin} has no hash; run make lock"
        locked.add(re.sub(r"[._]", "-", pin.lower().partition("==")[0]) + "==" + pin.partition("==")[2])
    names = {pin.partition("==")[0] for pin in locked}
    assert "torch" not in names
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        name = re.sub(r"[._]", "-", name.lower())
        if version and name != "torch":
            assert f"{name}=={version}" in locked, f"{line} is not in requirements-ci.lock; run make lock"
