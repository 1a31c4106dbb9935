"""The guard on its own: trees end with their owner, however that ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskensemble.guard import Ended, Guard, NotStarted, Stage, Why, tie
from tests.integration.engine.plane import alive, carriers, until

TREE = "trap '' TERM; (setsid sleep 600 &) ; sleep 601 & wait"


def ends(guard: Guard, count: int) -> list[Ended | NotStarted]:
    """Waits for so many ends."""
    found: list[Ended | NotStarted] = []
    while len(found) < count:
        assert select.select([guard], (), (), 30)[0]
        found += [report for report in guard.read() if isinstance(report, Ended | NotStarted)]
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_tied_tree_ends_when_its_owner_does(tmp_path: Path, number: int) -> None:
    marker = f"MARK={tmp_path.name}"
    program = f"import time; from taskensemble.guard import tie; tie(['/bin/sh', '-c', {TREE!r}], grace=0.3)"
    environment = {**os.environ, "MARK": tmp_path.name, "PYTHONPATH": str(Path(__file__).parents[3])}
    owner = subprocess.Popen([sys.executable, "-c", f"{program}; time.sleep(600)"], env=environment)
    until(lambda: len(carriers(marker)) == 5, "owner, guard and three processes run")
    owner.send_signal(number)
    owner.wait()
    until(lambda: carriers(marker) == [], "nothing is left", 10)


def test_a_tied_program_hands_its_status_on() -> None:
    assert tie(["/bin/sh", "-c", "exit 7"]).wait(20) == 7
    assert tie(["/bin/sh", "-c", "kill -9 $$"]).wait(20) == 128 + signal.SIGKILL
    assert tie(["/no/such/program"], stderr=subprocess.DEVNULL).wait(20) == 127


def test_a_tied_program_that_is_killed_is_started_again_but_not_for_ever_and_not_when_it_is_told_to_end(
    tmp_path: Path,
) -> None:
    count = tmp_path / "count"
    once = tie(
        ["/bin/sh", "-c", f"echo >> {count}; [ $(wc -l < {count}) -ge 3 ] || kill -9 $$; exit 5"], restart=True, pid=0
    )
    assert once.wait(20) == 5
    assert len(count.read_text()) == 3
    never = tie(["/bin/sh", "-c", "kill -9 $$"], restart=True, stderr=subprocess.DEVNULL)
    assert never.wait(30) == 128 + signal.SIGKILL
    asked = tie(["/bin/sh", "-c", f"echo >> {count}; sleep 600 & wait"], restart=True)
    until(lambda: len(count.read_text()) == 4, "it runs")
    asked.terminate()
    assert asked.wait(20) == 128 + signal.SIGTERM
    assert len(count.read_text()) == 4


def test_a_guard_that_hears_nothing_ends_its_members_and_starts_no_more(tmp_path: Path) -> None:
    guard = Guard()
    guard.set_environment(1, dict(os.environ))
    places = {"folder": str(tmp_path), "out": str(tmp_path / "o"), "err": str(tmp_path / "e")}
    guard.beat(0.5, 0.2)
    guard.spawn(1, ["/bin/sh", "-c", TREE], environment=1, extra={"TASKENSEMBLE_ATTEMPT_ID": tmp_path.name}, **places)
    guard.flush()
    began = time.monotonic()
    (end,) = ends(guard, 1)
    assert isinstance(end, Ended)
    assert end.why is Why.SILENCE
    assert 0.4 < time.monotonic() - began < 5
    assert carriers(f"TASKENSEMBLE_ATTEMPT_ID={tmp_path.name}") == []
    guard.spawn(2, ["/bin/true"], environment=1, extra={}, **places)
    guard.flush()
    (refused,) = ends(guard, 1)
    assert isinstance(refused, NotStarted)
    assert refused.stage is Stage.REFUSED
    guard.beat(60, 1)
    guard.spawn(3, ["/bin/true"], environment=1, extra={}, **places)
    guard.flush()
    (done,) = ends(guard, 1)
    assert isinstance(done, Ended)
    assert done.returncode == 0
    guard.close()


def test_what_is_set_for_one_member_replaces_what_all_have(tmp_path: Path) -> None:
    guard = Guard()
    guard.set_environment(1, {"PATH": os.environ["PATH"], "A": "all", "AB": "kept"})
    out = tmp_path / "out"
    guard.spawn(
        1, ["env"], environment=1, extra={"A": "one"}, folder=str(tmp_path), out=str(out), err=str(tmp_path / "err")
    )
    guard.flush()
    ends(guard, 1)
    guard.close()
    lines = [line for line in out.read_text().splitlines() if line.startswith("A")]
    assert lines == ["A=one", "AB=kept"]


def test_a_daemon_that_has_emptied_its_environment_ends_with_its_member(tmp_path: Path) -> None:
    """Nothing of it tells whose it is but the mark: its parent is gone, session, group and environment are its own."""
    guard = Guard()
    guard.set_environment(1, dict(os.environ))
    pid = tmp_path / "pid"
    program = (
        f"(env -i /usr/bin/setsid /bin/sh -c 'echo $$ > {pid}.new; /bin/mv {pid}.new {pid}; exec /bin/sleep 600' &)"
    )
    program += f"; until [ -e {pid} ]; do sleep 0.02; done; exit 0"
    for number, text in enumerate((program, "sleep 600"), 1):
        places = {"folder": str(tmp_path), "out": str(tmp_path / "o"), "err": str(tmp_path / "e")}
        extra = {"TASKENSEMBLE_ATTEMPT_ID": f"{tmp_path.name}:{number}"}
        guard.spawn(number, ["/bin/sh", "-c", text], environment=1, extra=extra, grace=5.0, **places)
    guard.flush()
    (end,) = ends(guard, 1)
    assert isinstance(end, Ended)
    assert (end.id, end.returncode) == (1, 0)
    assert not alive(int(pid.read_text()))
    guard.end(2)
    guard.flush()
    ends(guard, 1)
    guard.close()
