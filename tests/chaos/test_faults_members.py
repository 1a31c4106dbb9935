"""Members that do not end, fill disks and memory, or lose their folder: FAILED with the reason, and the others go on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskensemble.engine.records import ResourcesRecord, RunRecord
from tests.chaos.journal import Figures, Journal, now
from tests.integration.engine.plane import Plane, until
from tests.integration.engine.runs import one_entity, template

Tell = Callable[[Figures], None]


def start(
    plane: Plane, good: list[str], bad: list[str], dice: random.Random, *, path: Path | None = None, **fields: object
) -> tuple[RunRecord, str]:
    """A run of five members, one of which, drawn, runs `bad` under its own template; its name."""
    run, members = one_entity(path or plane.folder, good, 5)
    run = run.model_copy(update={"templates": (*run.templates, template(bad, **fields))})  # type: ignore[arg-type]
    index = dice.randrange(5)
    members[index] = members[index].model_copy(update={"template": 1})
    plane.start(run, members)
    return run, members[index].name


@pytest.mark.parametrize(
    ("words", "fields", "reason"),
    [
        (("stubborn", "daemon"), {"policy": {"walltime": 1.0, "grace": 0.5}}, "walltime of 1 s is over"),
        (("daemon",), {"policy": {"walltime": 1.0, "grace": 0.5}}, "walltime of 1 s is over"),
        (("grow", "daemon"), {"memory": 100}, "used more than its 100 MiB of memory"),
    ],
    ids=["ignores SIGTERM", "never ends", "exceeds its memory"],
)
def test_a_member_that_will_not_end_is_ended_with_its_daemons_and_says_why(
    plane: Plane,
    journal: Journal,
    dice: random.Random,
    tell: Tell,
    words: tuple[str, ...],
    fields: dict[str, object],
    reason: str,
) -> None:
    plane.worker("--slots", "2")
    given = {"resources": ResourcesRecord(memory_mb=100)} if "memory" in fields else fields
    run, name = start(plane, journal.command(0.2), journal.command(600, *words), dice, **given)
    status = plane.finish(run.run_id)
    assert (status.completed, status.failed) == (4, 1)
    began = journal.lines()[0].at
    figures = journal.check(plane.store, run.run_id, 5, f"member: {reason}", since=began, failed={name: reason})
    figures.recovery = now() - began
    tell(figures)


@pytest.mark.parametrize("megabytes", [50, 5000])
def test_a_member_that_fills_its_output_keeps_what_its_limit_allows_and_completes(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, megabytes: int
) -> None:
    plane.worker("--slots", "2")
    limit = dice.randrange(50_000, 200_000)
    run, name = start(
        plane,
        journal.command(0.2),
        journal.command(0.1, f"fill:{megabytes}"),
        dice,
        policy={"output_limit": limit, "walltime": 240.0},
    )
    began = now()
    assert plane.finish(run.run_id, 300).completed == 5
    output = plane.folder / "plate" / name / f"{name}.out"
    assert limit <= output.stat().st_size < limit + 1000
    tell(journal.check(plane.store, run.run_id, 5, f"member fills its output ({megabytes} MB)", since=began))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, mounted for the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("mounting needs root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "te-chaos", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"nothing can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def test_a_disk_that_is_full_fails_the_member_that_writes_there_and_no_other(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, small_disk: Path
) -> None:
    plane.worker("--slots", "1")
    program = ["/bin/sh", "-c", f"head -c {dice.randrange(2, 9)}000000 /dev/zero > data"]
    run, members = one_entity(plane.folder, journal.command(0.2), 5)
    run = run.model_copy(update={"templates": (*run.templates, template(program))})
    members[1] = members[1].model_copy(update={"template": 1, "path": str(small_disk / "plate_1")})
    began = now()
    plane.start(run, members)
    status = plane.finish(run.run_id)
    assert (status.completed, status.failed) == (4, 1)
    assert (small_disk / "plate_1/data").stat().st_size <= 1 << 20
    failed = {"plate_1": "exit status 1; see"}
    tell(journal.check(plane.store, run.run_id, 5, "disk full in a member's folder", since=began, failed=failed))


def test_members_that_find_the_experiments_disk_full_fail_with_the_reason_and_run_when_there_is_room(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, small_disk: Path
) -> None:
    plane.worker("--slots", "2")
    filling = small_disk / "filling"
    filled = subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4k"], capture_output=True, check=False)
    assert b"No space left" in filled.stderr
    run, members = one_entity(small_disk, journal.command(0.2), 3)
    began = now()
    plane.start(run, members)
    assert plane.finish(run.run_id).failed == 3
    for attempt in plane.store.attempts(run.run_id):
        assert "No space left on device" in attempt.reason
    names = [member.name for member in members]
    figures = journal.check(
        plane.store,
        run.run_id,
        3,
        "disk full in the experiment's folder",
        since=began,
        failed=dict.fromkeys(names, "No space"),
    )
    filling.unlink()
    again, members = one_entity(small_disk, journal.command(0.2), 3)
    plane.start(again, members)
    assert plane.finish(again.run_id).completed == 3
    tell(figures)


def test_members_on_a_read_only_file_system_fail_with_the_reason_and_the_worker_goes_on(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, small_disk: Path
) -> None:
    plane.worker("--slots", "2")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, capture_output=True)
    run, members = one_entity(plane.folder, journal.command(0.2), 5)
    index = dice.randrange(5)
    members[index] = members[index].model_copy(update={"path": str(small_disk / "there")})
    began = now()
    plane.start(run, members)
    status = plane.finish(run.run_id)
    assert (status.completed, status.failed) == (4, 1)
    failed = {members[index].name: "Read-only file system"}
    tell(journal.check(plane.store, run.run_id, 5, "read-only file system", since=began, failed=failed))


def test_a_folder_that_is_removed_under_a_member_costs_that_member_alone(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    plane.worker("--slots", "2")
    writes = ["/bin/sh", "-c", "touch here; sleep 600 & wait; echo late > late"]
    run, name = start(plane, journal.command(0.3), ["/bin/sh", "-c", "touch here; sleep 1; echo late > late"], dice)
    folder = plane.folder / "plate" / name
    until(lambda: (folder / "here").exists(), "the member runs")
    shutil.rmtree(folder)
    began = now()
    status = plane.finish(run.run_id)
    assert (status.completed, status.failed) == (4, 1)
    tell(journal.check(plane.store, run.run_id, 5, "folder removed", since=began, failed={name: "exit status"}))
    # The experiment's whole folder, while members run: they are ended by whoever wants, the worker stays.
    run, members = one_entity(plane.folder / "gone", writes, 2)
    plane.start(run, members)
    until(lambda: len(list(plane.folder.glob("gone/plate/*/here"))) == 2, "two members run")
    shutil.rmtree(plane.folder / "gone")
    plane.store.cancel(run.run_id)
    assert plane.finish(run.run_id).cancelled == 2


@pytest.mark.parametrize("victim", ["worker", "guard", "worker and guard", "all workers"])
def test_whatever_is_killed_members_and_daemons_end_with_it_and_run_elsewhere(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, victim: str
) -> None:
    workers = [plane.worker("--slots", "1"), plane.worker("--slots", "1")]
    run, members = one_entity(plane.folder, journal.command(dice.choice([0.05, 1.2]), "daemon"), 5)
    plane.start(run, members)
    journal.started(dice.randint(1, 4))
    time.sleep(dice.uniform(0, 1.3))  # members may be under way, at their end or past it when it is struck
    struck = workers if victim == "all workers" else [dice.choice(workers)]
    began = now()
    for worker in struck:
        if "guard" in victim:
            children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
            os.kill(
                next(int(pid) for pid in children if b"te-guard" in Path(f"/proc/{pid}/cmdline").read_bytes()),
                signal.SIGKILL,
            )
        if victim != "guard":
            worker.kill()
    if victim == "all workers":
        plane.worker("--slots", "2")
    assert plane.finish(run.run_id, 90).completed == 5
    figures = journal.check(plane.store, run.run_id, 5, f"SIGKILL of {victim}", since=began)
    assert figures.recovery < (15 if victim == "guard" else 60)
    tell(figures)


@pytest.mark.parametrize("drain", [0.2, 20.0])
def test_a_worker_that_is_told_to_end_lets_its_members_end_or_gives_them_back(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell, drain: float
) -> None:
    first = plane.worker("--slots", "2", "--drain", str(drain))
    run, members = one_entity(plane.folder, journal.command(dice.uniform(1.5, 2.5), "daemon"), 4)
    plane.start(run, members)
    journal.started(2)
    began = now()
    first.terminate()
    assert first.wait(40) == 0
    plane.worker("--slots", "2")
    assert plane.finish(run.run_id, 90).completed == 4
    assert max(line.attempt for line in journal.lines()) == (2 if drain < 1 else 1)
    tell(journal.check(plane.store, run.run_id, 4, f"SIGTERM of a worker, drain {drain:g} s", since=began))


def test_a_frozen_worker_has_lost_its_members_before_they_run_elsewhere_and_its_results_do_not_count(
    plane: Plane, journal: Journal, dice: random.Random, tell: Tell
) -> None:
    frozen = plane.worker("--slots", "2", "--lease", "4")
    run, members = one_entity(plane.folder, journal.command(dice.uniform(5.0, 6.0), "daemon"), 2)
    plane.start(run, members)
    journal.started(2)
    began = now()
    frozen.send_signal(signal.SIGSTOP)
    # The other worker comes after the fault: on a busy machine its start outlasts the members.
    plane.worker("--slots", "2", "--lease", "4")
    journal.started(4)
    frozen.send_signal(signal.SIGCONT)
    assert plane.finish(run.run_id, 90).completed == 2
    tell(journal.check(plane.store, run.run_id, 2, "SIGSTOP of a worker past its lease (4 s)", since=began))
