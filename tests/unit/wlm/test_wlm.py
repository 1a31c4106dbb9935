"""wlm: what the scheduler's variables and commands say, on recorded text."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble import wlm
from taskensemble.errors import AllocationError, InputError, ReservedKeywordError, UnsupportedError
from taskensemble.wlm import slurm

SALLOC = "salloc: Pending job allocation 118568\nsalloc: Granted job allocation 118568\n"
REFUSED = "salloc: error: Job submit/allocate failed: Invalid account or account/partition combination specified\n"


@pytest.fixture
def in_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "nid[00034-00035]",
        "SLURM_JOB_CPUS_PER_NODE": "64(x2)",
        "SLURM_TASKS_PER_NODE": "4(x2)",
        "SLURM_JOB_PARTITION": "bardpeak",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("in_slurm")
def test_an_allocation_of_slurm_tells_hosts_queue_and_tasks() -> None:
    assert slurm.get_hosts() == ["nid00034", "nid00035"]
    assert slurm.get_queue() == "bardpeak"
    assert slurm.get_tasks() == 8
    assert slurm.get_tasks_per_node() == {"nid00034": 4, "nid00035": 4}
    assert wlm.get_hosts("slurm") == slurm.get_hosts()


def test_an_allocation_of_pbs_tells_hosts_queue_and_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nodes").write_text("b.cluster\nb.cluster\na.cluster\n")
    for name in ("SLURM_JOB_ID", "NCPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PBS_JOBID", "12.server")
    monkeypatch.setenv("PBS_NODEFILE", str(tmp_path / "nodes"))
    monkeypatch.setenv("PBS_QUEUE", "workq")
    assert wlm.get_hosts("pbs") == ["a", "b"]
    assert wlm.get_queue("pals") == "workq"
    assert wlm.get_tasks("pbs") == 3


def test_outside_an_allocation_the_error_says_how_to_get_into_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(AllocationError, match="salloc"):
        wlm.get_hosts("slurm")
    with pytest.raises(UnsupportedError, match="local"):
        wlm.get_hosts("local")


def test_salloc_is_asked_with_the_options_of_the_user() -> None:
    command = slurm.allocation_command(
        5, "01:00:00", "A35311", {"ntasks-per-node": 5, "C": "haswell", "exclusive": None}
    )
    assert command == [
        *("salloc", "--no-shell", "-N", "5", "-J", "taskensemble", "-t", "01:00:00", "-A", "A35311"),
        *("--ntasks-per-node=5", "-C", "haswell", "--exclusive"),
    ]
    with pytest.raises(ReservedKeywordError, match="nodes"):
        slurm.allocation_command(options={"N": 5})
    with pytest.raises(InputError, match="HH:MM:SS"):
        slurm.allocation_command(time="1:00")


def test_sallocs_answers_are_read() -> None:
    assert slurm.parse_salloc(SALLOC) == "118568"
    assert slurm.parse_salloc(REFUSED) is None
    assert "Invalid account" in str(slurm.parse_salloc_error(REFUSED))
    assert slurm.parse_salloc_error("salloc: error: no such constraint\n" + REFUSED) == "no such constraint"
    assert (
        slurm.parse_salloc_error("salloc: unrecognized option '--x'\nTry 'salloc --help'")
        == "unrecognized option '--x'"
    )
    assert slurm.parse_salloc_error("") is None


def test_sinfos_answers_are_read() -> None:
    assert slurm.parse_default_partition("debug\nall*\n") == "all"
    assert slurm.parse_default_partition("debug\n") is None
    assert slurm.parse_partitions("all n1 4\nall n2 4+\n\ngpu g1 64\n") == {
        "all": {("n1", 4), ("n2", 4)},
        "gpu": {("g1", 64)},
    }
