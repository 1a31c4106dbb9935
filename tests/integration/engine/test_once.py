"""A program that has ended does not run again, whoever is killed before its end is in the record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskensemble.engine.records import State, WorkerRecord
from taskensemble.engine.store import Store
from tests.integration.engine.plane import ROOT, Plane, alive, until
from tests.integration.engine.runs import one_entity
from tests.integration.engine.servers import Server
from workers.reaper import Reaper

PROGRAM = 'echo $$ >> "$0"; until [ -e "$0.end" ]; do sleep 0.02; done; exit $(cat "$0.end")'
"""`sh -c PROGRAM file`: writes its pid, waits for `file.end`, exits with the status that stands there."""


def guard_of(worker: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return next(int(pid) for pid in children if b"te-guard" in Path(f"/proc/{pid}/cmdline").read_bytes())


def kill_worker(worker: subprocess.Popen[bytes], guard: int) -> None:
    worker.kill()


def kill_both(worker: subprocess.Popen[bytes], guard: int) -> None:
    os.kill(guard, signal.SIGKILL)
    worker.kill()


@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize("fault", [kill_worker, kill_both])
def test_an_end_that_the_worker_could_not_record_is_recorded_when_it_is_dead(
    plane: Plane, tmp_path: Path, fault: Callable[[subprocess.Popen[bytes], int], None], status: int
) -> None:
    worker = plane.worker("--slots", "1")
    guard = guard_of(worker)
    pids = tmp_path / "pids"
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", PROGRAM, str(pids)])
    plane.start(run, members)
    until(pids.exists, "the program runs")
    until(lambda: pids.read_text().endswith("\n"), "it has written its pid")
    worker.send_signal(signal.SIGSTOP)
    (tmp_path / "pids.new").write_text(str(status))
    (tmp_path / "pids.new").rename(tmp_path / "pids.end")
    until(lambda: not alive(int(pids.read_text())), "it has ended, and its worker does not know")
    until(lambda: not Path(f"/proc/{pids.read_text().strip()}").exists(), "its guard has taken note")
    fault(worker, guard)
    plane.worker("--slots", "1")
    final = plane.finish(run.run_id)
    attempt = plane.store.attempts(run.run_id)[0]
    assert attempt.attempt == 1
    assert attempt.returncode == status
    assert attempt.state is (State.FAILED if status else State.COMPLETED)
    assert final.completed == (status == 0)
    assert len(pids.read_text().split()) == 1
    assert bool(attempt.reason) == bool(status)


def test_an_end_that_the_guard_could_not_note_is_taken_from_the_zombie_it_leaves(plane: Plane, tmp_path: Path) -> None:
    worker = plane.worker("--slots", "1")
    guard = guard_of(worker)
    pids = tmp_path / "pids"
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", PROGRAM, str(pids)])
    plane.start(run, members)
    until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the program runs")
    until(lambda: plane.store.attempts(run.run_id)[0].state is State.RUNNING, "its worker knows its pid")
    os.kill(guard, signal.SIGSTOP)
    (tmp_path / "pids.new").write_text("0")
    (tmp_path / "pids.new").rename(tmp_path / "pids.end")
    until(lambda: not alive(int(pids.read_text())), "it has ended, and its guard does not know")
    os.kill(guard, signal.SIGKILL)
    assert plane.finish(run.run_id).completed == 1
    assert plane.store.attempts(run.run_id)[0].attempt == 1
    assert len(pids.read_text().split()) == 1


def test_a_frozen_workers_ended_member_is_recorded_by_the_node_and_its_late_result_changes_nothing(
    plane: Plane, tmp_path: Path
) -> None:
    for _ in range(2):
        plane.worker("--slots", "1", "--lease", "4")
    pids = tmp_path / "pids"
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", PROGRAM, str(pids)])
    plane.start(run, members)
    until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the program runs")
    held = plane.store.attempts(run.run_id)[0].worker
    worker = plane.workers[int(held[1:])]
    worker.send_signal(signal.SIGSTOP)
    (tmp_path / "pids.new").write_text("0")
    (tmp_path / "pids.new").rename(tmp_path / "pids.end")
    assert plane.finish(run.run_id).completed == 1
    worker.send_signal(signal.SIGCONT)
    assert plane.store.attempts(run.run_id)[0].attempt == 1
    assert len(pids.read_text().split()) == 1


TOLD = 'echo $$ >> "$0"; if [ "$TASKENSEMBLE_ATTEMPT" = 1 ]; then exec sleep 600; fi'


@pytest.mark.parametrize("member_first", [True, False])
def test_members_that_are_told_to_end_with_their_worker_run_again_elsewhere(
    plane: Plane, tmp_path: Path, member_first: bool
) -> None:
    """Slurm at a job's walltime, or systemd at a service's stop, tells every process: program, guard and worker."""
    worker = plane.worker("--slots", "1", "--drain", "60")
    pids = tmp_path / "pids"
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", TOLD, str(pids)])
    plane.start(run, members)
    until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the program runs")
    everybody = [int(pids.read_text()), guard_of(worker), worker.pid]
    for pid in everybody if member_first else reversed(everybody):
        os.kill(pid, signal.SIGTERM)
    assert worker.wait(30) == 0
    plane.worker("--slots", "1")
    assert plane.finish(run.run_id).completed == 1
    assert plane.store.attempts(run.run_id)[0].attempt == 2
    assert len(pids.read_text().split()) == 2


def test_a_program_that_alone_is_told_to_end_has_failed(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", "kill $$; sleep 600"])
    plane.start(run, members)
    assert plane.finish(run.run_id).failed == 1
    attempt = plane.store.attempts(run.run_id)[0]
    assert (attempt.attempt, attempt.returncode) == (1, -signal.SIGTERM)
    assert "SIGTERM" in attempt.reason


@pytest.mark.parametrize("dead", ["setup", "completion"])
def test_members_run_whose_release_died_with_its_worker(plane: Plane, tmp_path: Path, dead: str) -> None:
    """Between the record (the run is ready, or the entity before is closed) and the messages of what may run now."""
    store = plane.store
    run, members = one_entity(tmp_path, ["/bin/true"], 1)
    (first,) = run.entities
    second = first.model_copy(update={"index": 1, "name": "later", "first": 1, "after": (0,)})
    run = run.model_copy(update={"entities": (first, second)})
    store.write_run(run, [*members, members[0].model_copy(update={"index": 1, "entity": 1, "name": "later_0"})])
    assert store.begin_setup(run.run_id, "dead") == "go"
    assert store.ready(run.run_id, "dead")
    if dead == "completion":
        store.release(run.run_id, 0)
        store.claim(run.run_id, "dead", "node", [(0, 0, "dead")])
        assert store.finish(run.run_id, 0, 0, "dead", "c", "0", "", "0.1", "") == "zero"
        assert store.complete(run.run_id, 0) == [1]
    plane.worker("--slots", "1")
    assert plane.finish(run.run_id).completed == 2


def test_after_a_restart_of_the_store_no_lease_is_over_for_the_length_of_one(
    own_server: Server, tmp_path: Path
) -> None:
    lease = 1.5
    store = Store.connect(own_server.url)
    run, members = one_entity(tmp_path, ["/bin/true"], 1)
    store.write_run(run, members)
    store.begin_setup(run.run_id, "setup")
    store.ready(run.run_id, "setup")
    store.release(run.run_id, 0)
    assert store.claim(run.run_id, "w", "node", [(0, 0, "token")])[0].answer == "claimed"
    observer = WorkerRecord(name="observer", host="here", pid=1, slots=1, free=1)
    reaper = Reaper(observer, own_server.url, own_server.url, lease)
    reaper.look()
    seen = time.monotonic()
    until(lambda: time.monotonic() > seen + 1.1 * lease, "the lease would be over")
    own_server.kill()
    own_server.start()
    back = time.monotonic()
    reaper.look()
    assert store.status(run.run_id).running == 1
    until(lambda: reaper.look() or not store.status(run.run_id).running, "its worker has still not been heard of")
    assert time.monotonic() - back > lease
    assert store.status(run.run_id).queued == 1


def test_what_a_store_forgets_that_dies_with_its_machine_is_told_again_before_anybody_claims(
    own_server: Server, tmp_path: Path
) -> None:
    """The append-only file reaches the disk each second: the last claim and the last end are gone, the message is back."""
    plane = Plane(own_server.url, tmp_path)
    try:
        worker = plane.worker("--slots", "1", "--lease", "20")
        pids = [tmp_path / "first", tmp_path / "second"]
        run, members = one_entity(tmp_path, ["/bin/sh", "-c", PROGRAM], 2, args=[[str(path)] for path in pids])
        plane.start(run, members)
        until(lambda: pids[0].exists() and plane.store.status(run.run_id).queued == 1, "the first one runs")
        before = own_server.log.stat().st_size
        (tmp_path / "first.new").write_text("0")
        (tmp_path / "first.new").rename(tmp_path / "first.end")
        until(lambda: pids[1].exists() and plane.store.status(run.run_id).completed == 1, "the second one runs")
        plane.worker("--slots", "1", "--lease", "20")
        own_server.kill()
        os.truncate(own_server.log, before)
        worker.send_signal(signal.SIGSTOP)
        own_server.start()
        assert plane.store.status(run.run_id).completed == 0
        until(lambda: plane.store.workers(), "the other one is back before it")
        worker.send_signal(signal.SIGCONT)
        until(lambda: plane.store.status(run.run_id).completed == 1, "the first end is told again", 90)
        (tmp_path / "second.new").write_text("0")
        (tmp_path / "second.new").rename(tmp_path / "second.end")
        assert plane.finish(run.run_id).completed == 2
        assert [attempt.attempt for attempt in plane.store.attempts(run.run_id)] == [1, 1]
        assert [len(path.read_text().split()) for path in pids] == [1, 1]
    finally:
        plane.close()


def test_workers_in_containers_of_one_machine_and_name_do_not_take_each_other_for_dead(
    plane: Plane, tmp_path: Path
) -> None:
    """Each sees its own processes alone: a pid that is not there says nothing of a worker in another container."""
    contained = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *(["-r"] if os.geteuid() else [])]
    if subprocess.run([*contained, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no process namespaces can be made here")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TASKENSEMBLE_BROKER_URL": plane.broker_url, "PYTHONPATH": str(ROOT)}
    command = [*contained, sys.executable, "-P", "-m", "workers.app", "--slots", "1", "--name", "contained"]
    with (tmp_path / "contained.log").open("wb") as log:
        worker = subprocess.Popen(
            command, env={**environment, "TMPDIR": str(temporary)}, cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        until(lambda: [found.name for found in plane.store.workers()] == ["contained"], "it has registered", 60)
        pids = tmp_path / "pids"
        run, members = one_entity(tmp_path, ["/bin/sh", "-c", PROGRAM, str(pids)])
        plane.start(run, members)
        until(lambda: pids.exists() and pids.read_text().endswith("\n"), "the program runs")
        plane.worker("--slots", "1")
        looks = plane.record("w0").beat
        until(lambda: plane.record("w0").beat > looks + 1, "the other one has looked at it for seconds")
        assert [found.name for found in plane.store.workers()] == ["contained", "w0"]
        (tmp_path / "pids.new").write_text("0")
        (tmp_path / "pids.new").rename(tmp_path / "pids.end")
        assert plane.finish(run.run_id).completed == 1
        assert plane.store.attempts(run.run_id)[0].attempt == 1
        assert len(pids.read_text().split()) == 1
    finally:
        worker.kill()
        worker.wait()
