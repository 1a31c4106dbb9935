"""What becomes of runs and processes when drivers end, are interrupted, are killed, or come back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from taskensemble import Experiment, Status
from taskensemble.launch import embedded
from tests.integration.experiment.drivers import Driver, eventually

Start = Callable[..., Driver]

BEGIN = """
import os, signal, sys, time
from taskensemble import Experiment
exp = Experiment("exp", launcher="local", slots=2)
def ensemble(command, replicas=2, **keywords):
    program = exp.create_run_settings(exe="/bin/sh", exe_args=["-c", command])
    return exp.create_ensemble("ens", replicas=replicas, run_settings=program, grace=1, **keywords)
"""


def run_id(driver: Driver) -> str:
    found = re.search(r"run=(\S+)", driver.output)
    assert found is not None, driver.output
    return found[1]


def test_a_driver_that_is_killed_leaves_no_process_behind(driver: Start, tmp_path: Path) -> None:
    killed = driver(BEGIN + "exp.start(ensemble('(sleep 600 & echo $! > child; wait)', 3))\n")
    eventually(lambda: len(list(tmp_path.glob("exp/ens/*/child"))) == 2, what="two members")
    assert killed.left()
    killed.signal(signal.SIGKILL)
    killed.wait()
    eventually(lambda: not killed.left(), timeout=30, what="the end of every process")
    assert embedded.attach(tmp_path / "exp") is None


def test_a_driver_that_ends_normally_says_so_and_waits_for_its_members(driver: Start, tmp_path: Path) -> None:
    ended = driver(BEGIN + "run = exp.start(ensemble('sleep 1; touch done'), block=False)\nprint('over', flush=True)\n")
    assert ended.wait() == 0
    assert "the driver has ended; waiting for the run exp-" in ended.output
    assert len(list(tmp_path.glob("exp/ens/*/done"))) == 2
    assert ended.left() == []


def test_a_driver_that_ends_by_an_exception_stops_its_members(driver: Start, tmp_path: Path) -> None:
    failed = driver(BEGIN + "exp.start(ensemble('sleep 600'), block=False)\nraise ValueError('mine')\n")
    assert failed.wait(60) == 1
    assert "ValueError: mine" in failed.output
    assert failed.left() == []
    with Experiment("exp") as again:
        assert again.reconnect(_only_run(tmp_path)).status().cancelled == 2


def test_an_interrupt_stops_everything_and_is_raised(driver: Start) -> None:
    code = """
    try:
        exp.start(ensemble('touch here; sleep 600', 3))
    except KeyboardInterrupt:
        print('raised', [str(status) for status in exp.get_status(*entities)], flush=True)
    """
    interrupted = driver(BEGIN + "entities = [ensemble('touch here; sleep 600', 3)]\n" + _block(code, "entities[0]"))
    eventually(lambda: list(Path("exp/ens").glob("*/here")), what="a member")
    interrupted.signal(signal.SIGINT)
    assert interrupted.wait() == 0
    assert "raised ['Cancelled', 'Cancelled', 'Cancelled']" in interrupted.output
    assert interrupted.left() == []


def test_without_kill_on_interrupt_the_run_goes_on_and_its_id_is_said(driver: Start) -> None:
    code = """
    ens = ensemble('touch here; while ! test -e ../../../go; do sleep 0.05; done')
    try:
        exp.start(ens, kill_on_interrupt=False)
    except KeyboardInterrupt:
        print('raised', flush=True)
        open('go', 'w')
    exp.poll()
    print([str(status) for status in exp.get_status(ens)], flush=True)
    """
    interrupted = driver(BEGIN + _dedent(code))
    eventually(lambda: list(Path("exp/ens").glob("*/here")), what="a member")
    interrupted.signal(signal.SIGINT)
    assert interrupted.wait() == 0
    assert re.search(r"taskensemble stop exp-\w+", interrupted.output)
    assert "['Completed', 'Completed']" in interrupted.output


def test_a_handler_of_the_user_is_called_and_stays(driver: Start) -> None:
    code = """
    def handler(number, frame):
        print('mine', flush=True)
        open('go', 'w')
    signal.signal(signal.SIGINT, handler)
    ens = ensemble('touch here; while ! test -e ../../../go; do sleep 0.05; done')
    exp.start(ens)
    print(signal.getsignal(signal.SIGINT) is handler, [str(status) for status in exp.get_status(ens)], flush=True)
    """
    handled = driver(BEGIN + _dedent(code))
    eventually(lambda: list(Path("exp/ens").glob("*/here")), what="a member")
    handled.signal(signal.SIGINT)
    assert handled.wait() == 0
    assert "mine" in handled.output
    assert "True ['Completed', 'Completed']" in handled.output


def test_another_process_finds_a_run_while_its_driver_lives(driver: Start, tmp_path: Path) -> None:
    living = driver(
        BEGIN + "run = exp.start(ensemble('while ! test -e ../../../go; do sleep 0.05; done'), block=False)\n"
        "print(f'run={run.run_id}', flush=True)\nprint('end', run.wait().state, flush=True)\n"
    )
    living.says("run=")
    other = Experiment("exp")
    handle = other.reconnect(run_id(living))
    assert not handle.finished()
    assert handle.status().size == 2
    (tmp_path / "go").touch()
    assert handle.wait(60).completed == 2
    assert len(handle.results()) == 2
    assert living.wait() == 0
    other.close()


def test_another_process_stops_a_run_of_a_living_driver(driver: Start) -> None:
    living = driver(
        BEGIN + "run = exp.start(ensemble('sleep 600'), block=False)\nprint(f'run={run.run_id}', flush=True)\n"
        "print('end', run.wait().state, flush=True)\n"
    )
    living.says("run=")
    other = Experiment("exp")
    assert other.reconnect(run_id(living)).stop().cancelled == 2
    assert living.wait() == 0
    assert "end Cancelled" in living.output
    other.close()


SLOW_TO_END = "trap 'touch told; sleep 2; exit 0' TERM; touch here; while :; do sleep 0.05; done"
"""A member that is still there when its driver is killed during a stop."""


def test_a_run_is_stopped_although_its_driver_is_killed_meanwhile(driver: Start, tmp_path: Path) -> None:
    killed = driver(
        BEGIN
        + f"run = exp.start(ensemble({SLOW_TO_END!r}), block=False)\nprint('run=' + run.run_id, flush=True)\nrun.wait()\n"
    )
    eventually(lambda: len(list(tmp_path.glob("exp/ens/*/here"))) == 2, what="two members")
    with Experiment("exp") as other, ThreadPoolExecutor(1) as thread:
        handle = other.reconnect(run_id(killed))
        stopping = thread.submit(handle.stop)
        eventually(lambda: list(tmp_path.glob("exp/ens/*/told")), what="the stop")
        killed.signal(signal.SIGKILL)
        assert stopping.result(90).cancelled == 2
    eventually(lambda: not killed.left(), timeout=30, what="the end of every process")


def test_the_command_stop_closes_what_a_killed_driver_left_unless_other_runs_would_go_on(
    driver: Start, tmp_path: Path
) -> None:
    killed = driver(
        BEGIN
        + "run = exp.start(ensemble('sleep 600', 1), block=False)\n"
        + "more = exp.start(exp.create_model('m', exp.create_run_settings('sleep', '600')), block=False)\n"
        + "while not (run.status().running and more.status().running): time.sleep(0.05)\n"
        + "print(f'run={run.run_id} more={more.run_id} .', flush=True)\nrun.wait()\n"
    )
    killed.says(" .")
    killed.kill_all()
    more = killed.output.partition("more=")[2].split()[0]

    def stop(run: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "taskensemble", "stop", run, "--path", str(tmp_path / "exp")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    code, said = stop(run_id(killed))
    assert code == 3, said
    assert f"go on with {more} as well" in said
    assert stop(more)[0] == 0
    # The worker that closed the other's record has closed this one's as well.
    code, said = stop(run_id(killed))
    assert code == 0, said
    assert "cancelled already" in said


def test_a_run_of_a_driver_that_was_killed_goes_on_where_it_is_reconnected(driver: Start, tmp_path: Path) -> None:
    killed = driver(
        BEGIN + "command = 'echo $TASKENSEMBLE_MEMBER >> ../../../ran; test -e ../../../go || sleep 600'\n"
        "run = exp.start(ensemble(command, 6), block=False)\n"
        "print(f'run={run.run_id}', flush=True)\nrun.wait()\n"
    )
    killed.says("run=")
    eventually(
        lambda: (tmp_path / "ran").exists() and len((tmp_path / "ran").read_text().split()) == 2, what="two members"
    )
    killed.signal(signal.SIGKILL)
    killed.wait()
    eventually(lambda: not killed.left(), what="the end of every process")
    (tmp_path / "go").touch()
    again = Experiment("exp", slots=2)
    status = again.reconnect(run_id(killed)).wait(120)
    assert (status.state, status.completed) == (Status.COMPLETED, 6)
    again.close()


def test_an_adaptive_ensemble_goes_on_in_another_process(driver: Start, tmp_path: Path) -> None:
    rounds = """
    def rounds():
        for number in range(4):
            rows = yield [{'x': number}, {'x': -number}]
            print('round', number, [row['params']['x'] for row in rows], flush=True)
    model = exp.create_model('adapt', exp.create_run_settings(exe='/bin/true'), params={'x': 0})
    """
    first = driver(
        BEGIN + _dedent(rounds) + "handle = exp.start_adaptive(model, rounds(), block=False)\n"
        "handle.rounds[0].wait()\nprint(f'run={handle.run_id}', flush=True)\n"
    )
    assert first.wait() == 0
    second = driver(
        BEGIN + _dedent(rounds) + f"handle = exp.reconnect({run_id(first)!r}, generator=rounds(), model=model)\n"
        "handle.wait()\nprint(len(handle.rounds), len(handle.results()), flush=True)\n"
    )
    assert second.wait() == 0, second.output
    assert "round 3 ['3', '-3']" in second.output
    assert "4 8" in second.output


def test_the_worker_that_dies_is_replaced_and_its_members_run_again(driver: Start, tmp_path: Path) -> None:
    living = driver(
        BEGIN + "ens = ensemble('echo x >> ran; test $(wc -l < ran) -gt 1 || sleep 600')\n"
        "time.sleep(0); run = exp.start(ens, block=False)\nprint(f'run={run.run_id}', flush=True)\n"
        "print('completed', run.wait().completed, flush=True)\n"
    )
    living.says("run=")
    eventually(lambda: len(list(tmp_path.glob("exp/ens/*/ran"))) == 2, what="two members")
    eventually(lambda: _age(living) > 4, what="an age at which a worker is replaced")
    for line in living.left():
        if "workers.app" in line and "te-guard" not in line:
            os.kill(int(line.split()[0]), signal.SIGKILL)
    assert living.wait(120) == 0
    assert "completed 2" in living.output


def test_a_control_plane_that_dies_comes_back_and_loses_no_run(driver: Start, tmp_path: Path) -> None:
    living = driver(
        BEGIN + "ens = ensemble('touch here; while ! test -e ../../../go; do sleep 0.05; done', 6)\n"
        "run = exp.start(ens, block=False)\nprint(f'run={run.run_id}', flush=True)\n"
        "print('completed', run.wait().completed, flush=True)\n"
    )
    living.says("run=")
    eventually(lambda: len(list(tmp_path.glob("exp/ens/*/here"))) == 2, what="two members")
    eventually(lambda: _age(living) > 4, what="an age at which a control plane is replaced")
    # The server writes its title over its environment: it is found below its guard.
    (guard,) = (int(line.split()[0]) for line in living.left() if "te-guard tie" in line and "valkey-server" in line)
    os.kill(int(Path(f"/proc/{guard}/task/{guard}/children").read_text()), signal.SIGKILL)
    living.says("is brought back")
    (tmp_path / "go").touch()
    assert living.wait(120) == 0
    assert "completed 6" in living.output


def test_two_drivers_of_one_folder_do_not_share_an_embedded_control_plane(driver: Start) -> None:
    first = driver(
        BEGIN
        + "exp.start(ensemble('while ! test -e ../../../go; do sleep 0.05; done'), block=False)\nprint('up', flush=True)\n"
    )
    first.says("up")
    second = driver(BEGIN + "exp.start(ensemble('true'))\n")
    assert second.wait() == 1
    assert f"belongs to process {first.process.pid}" in second.output
    assert "taskensemble up" in second.output
    Path("go").touch()
    assert first.wait() == 0


def _only_run(folder: Path) -> str:
    from taskensemble.launch import control

    plane = control.for_reader(folder / "exp")
    assert plane is not None
    (run,) = plane.store.runs()
    plane.close()
    return run


def _dedent(code: str) -> str:
    import textwrap

    return textwrap.dedent(code)


def _block(code: str, entity: str) -> str:
    return _dedent(code).replace("ensemble('touch here; sleep 600', 3)", entity)


def _age(driver: Driver) -> float:
    import psutil

    workers = [int(line.split()[0]) for line in driver.left() if "workers.app" in line]
    import time

    return time.time() - max(psutil.Process(pid).create_time() for pid in workers)
