"""What of a host a process may use, on recorded files of both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskensemble.engine.host import usable_cpus, usable_memory_mb

CPUS = len(os.sched_getaffinity(0))
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def written(tmp_path: Path, groups: str, files: dict[str, str]) -> tuple[Path, Path]:
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mount", tmp_path / "groups"


@pytest.mark.parametrize(
    ("groups", "files", "cpus", "memory"),
    [
        ("0::/job/step\n", {"job/cpu.max": "100000 100000\n", "job/step/cpu.max": "max 100000\n"}, 1, MEMORY),
        ("0::/\n", {"cpu.max": "50000 100000\n", "memory.max": "536870912\n"}, 1, 512),
        ("0::/job\n", {"job/cpu.max": "max 100000\n", "job/memory.max": "max\n"}, CPUS, MEMORY),
        (
            "4:memory:/job\n3:cpu,cpuacct:/job\n",
            {
                "cpu/job/cpu.cfs_quota_us": "150000\n",
                "cpu/job/cpu.cfs_period_us": "100000\n",
                "memory/job/memory.limit_in_bytes": "1073741824\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            1,
            1024,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, CPUS, MEMORY),
        ("", {}, CPUS, MEMORY),
    ],
)
def test_the_groups_limits_are_honoured(
    tmp_path: Path, groups: str, files: dict[str, str], cpus: int, memory: int
) -> None:
    mount, listed = written(tmp_path, groups, files)
    assert usable_cpus(mount, listed) == cpus
    assert usable_memory_mb(mount, listed) == memory


def test_a_host_without_groups_is_all_there_is(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path, tmp_path / "none") == CPUS
    assert usable_memory_mb(tmp_path, tmp_path / "none") == MEMORY
