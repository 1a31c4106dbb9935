"""Build backend: setuptools, plus the three C programs of the package.

The AI module (`taskensemble/ai/module/taskensemble_ai.so`), the guard (`taskensemble/guard/te-guard`) and the inference
workers' quick way (`workers/inference/taskensemble_quick.so`) are no Python extensions: a server loads the first, a worker
starts the second, and the third is called through ctypes. They are compiled here into the source tree, from where
`package-data` takes them into a wheel and where an editable install finds them. Without a C compiler the `ziglang` wheel
becomes a build requirement and compiles them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.command.bdist_wheel import bdist_wheel

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "taskensemble" / "ai" / "module"
GUARD = ROOT / "taskensemble" / "guard"
QUICK = ROOT / "workers" / "inference"
WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic"]


class PlatformWheel(bdist_wheel):
    """A wheel for one platform and any Python 3: it carries machine code, but no Python extension (see pyproject.toml)."""

    def finalize_options(self) -> None:
        # What is installed then is not pure Python, and stands where a platform's files do.
        self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def system_compiler() -> str | None:
    """The C compiler of the machine: $CC, cc, gcc or clang; None where there is none."""
    for candidate in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if candidate and shutil.which(candidate.split()[0]):
            return candidate
    return None


def compiler() -> list[str]:
    """The command that compiles C: the machine's compiler, or the one in the `ziglang` wheel."""
    found = system_compiler()
    return found.split() if found else [sys.executable, "-m", "ziglang", "cc"]


def compile_programs() -> None:
    """Compile the programs where they are missing or older than a source of theirs. A failure ends the build with the
    compiler's own words."""
    if sys.platform != "linux":
        raise SystemExit(
            f"taskensemble runs on Linux with glibc 2.28 or newer; this is {sys.platform}. "
            "Use a Linux machine, a container or WSL 2."
        )
    shared = ["-fPIC", "-shared", "-fvisibility=hidden"]
    headers = sorted(MODULE.glob("*.h"))
    _compile(sorted(MODULE.glob("*.c")), headers, MODULE / "taskensemble_ai.so", shared)
    # What it shares with the module is in a header of the module.
    _compile(sorted(QUICK.glob("*.c")), [*sorted(QUICK.glob("*.h")), *headers], QUICK / "taskensemble_quick.so", shared)
    _compile(sorted(GUARD.glob("*.c")), sorted(GUARD.glob("*.h")), GUARD / "te-guard", [])


def _compile(sources: list[Path], headers: list[Path], target: Path, flags: list[str]) -> None:
    newest = max(path.stat().st_mtime for path in [*sources, *headers])
    if target.exists() and target.stat().st_mtime > newest:
        return
    # A second build at the same time must never see, or load, half a file.
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    subprocess.run([*compiler(), *WARNINGS, *flags, *map(str, sources), "-o", str(partial)], check=True)
    partial.replace(target)


def _requirements(base: list[str]) -> list[str]:
    return base if system_compiler() else [*base, "ziglang>=0.13"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """Setuptools' requirements, and a compiler where the machine has none (PEP 517)."""
    return _requirements(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """Setuptools' requirements, and a compiler where the machine has none (PEP 660)."""
    return _requirements(build_meta.get_requires_for_build_editable(config_settings))


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Compile, then setuptools' wheel."""
    compile_programs()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """Compile into the source tree, then setuptools' editable wheel."""
    compile_programs()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


build_sdist = build_meta.build_sdist
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable


def check_programs() -> None:
    """Compile the programs into nowhere, every warning an error: the linters' part of the build."""
    for folder in (MODULE, GUARD, QUICK):
        for source in sorted(folder.glob("*.c")):
            subprocess.run(
                [*compiler(), *WARNINGS, "-Werror", "-fPIC", "-c", str(source), "-o", os.devnull], check=True
            )


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check_programs()
    else:
        compile_programs()
