"""Runs by real workers: members, their ends, and what the record says of them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
import redis

from taskensemble.engine import messages
from taskensemble.engine.records import (
    DatabaseAddressRecord,
    DatabaseUseRecord,
    EntityRecord,
    MemberRecord,
    RunRecord,
    State,
)
from tests.integration.engine.plane import Plane, alive, carriers, until
from tests.integration.engine.runs import one_entity, template


def test_one_failing_member_of_twenty_leaves_nineteen_completed(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "4")
    program = (
        "import sys; print('out', sys.argv[1]); print('err', file=sys.stderr); sys.exit(3 if sys.argv[1] == '7' else 0)"
    )
    run, members = one_entity(tmp_path, [sys.executable, "-c", program], 20, args=[[str(i)] for i in range(20)])
    status = plane.finish(plane.start(run, members))
    assert (status.state, status.completed, status.failed) == (State.FAILED, 19, 1)
    failed = plane.store.attempts(run.run_id, [7])[0]
    assert (failed.state, failed.returncode, failed.attempt) == (State.FAILED, 3, 1)
    assert failed.reason == f"exit status 3; see {tmp_path}/plate/plate_7/plate_7.err"
    assert failed.started is not None
    assert failed.ended is not None
    assert failed.started <= failed.ended
    for i in range(20):
        assert (tmp_path / f"plate/plate_{i}/plate_{i}.out").read_text() == f"out {i}\n"
        assert (tmp_path / f"plate/plate_{i}/plate_{i}.err").read_text() == "err\n"
    kinds = [event.kind for event in plane.store.watch(run.run_id, timeout=5)]
    assert kinds.count("start") == kinds.count("end") == 20
    until(lambda: not plane.store.active_runs() and not plane.store.queues(), "the run is off the lists")


def test_a_member_finds_its_environment(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    os.environ["LEFT_OUT"] = "1"
    program = "import os, json; print(json.dumps(dict(os.environ, cwd=os.getcwd())))"
    run, members = one_entity(tmp_path, [sys.executable, "-c", program], 1)
    uses = (DatabaseUseRecord(identifier=""), DatabaseUseRecord(identifier="db2", suffix="db2"))
    changed = template(
        [sys.executable, "-c", program],
        env={"SET": "é", "PATH": os.environ["PATH"], "LEFT_OUT": None, "SR_SOCKET_TIMEOUT": "777"},
        databases=uses,
        key_prefixing=True,
        incoming=("a", "b"),
    )
    run = run.model_copy(update={"templates": (changed,)})
    plane.store.set_database(
        run.path, DatabaseAddressRecord(identifier="", addresses=("127.0.0.1:1", "127.0.0.1:2"), cluster=True)
    )
    plane.store.set_database(run.path, DatabaseAddressRecord(identifier="db2", addresses=("unix:///tmp/x",)))
    assert plane.finish(plane.start(run, members)).state is State.COMPLETED
    found = json.loads((tmp_path / "plate/plate_0/plate_0.out").read_text())
    expected = {
        "SET": "é",
        "SSDB": "127.0.0.1:1,127.0.0.1:2",
        "SR_DB_TYPE": "Clustered",
        "SSDB_db2": "unix:///tmp/x",
        "SR_DB_TYPE_db2": "Standalone",
        "SR_SOCKET_TIMEOUT": "777",
        "SR_SOCKET_TIMEOUT_db2": "10000",
        "SSKEYIN": "a,b",
        "SSKEYOUT": "plate_0",
        "TASKENSEMBLE_RUN_ID": run.run_id,
        "TASKENSEMBLE_MEMBER": "plate_0",
        "TASKENSEMBLE_ATTEMPT": "1",
        "cwd": str(tmp_path / "plate/plate_0"),
    }
    assert {name: found.get(name) for name in expected} == expected
    assert "LEFT_OUT" not in found
    assert "TASKENSEMBLE_BROKER_URL" not in found


def test_a_program_that_does_not_exist_fails_with_its_name(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/no/such/program"], 1)
    status = plane.finish(plane.start(run, members))
    assert status.state is State.FAILED
    assert "/no/such/program could not be started: No such file" in plane.store.attempts(run.run_id)[0].reason


def test_stop_ends_every_process_and_what_waits_never_starts(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    run, members = one_entity(
        tmp_path, ["/bin/sh", "-c", "trap '' TERM; sleep 600 & sleep 601"], 50, policy={"grace": 0.5}
    )
    plane.start(run, members)
    until(lambda: plane.store.status(run.run_id).running == 2, "two members run")
    until(lambda: len(carriers(f"TASKENSEMBLE_RUN_ID={run.run_id}")) == 6, "with six processes")
    began = time.monotonic()
    plane.store.cancel(run.run_id, reason="no longer needed")
    messages.delete_queues(plane.broker_url, run)
    status = plane.finish(run.run_id)
    assert time.monotonic() - began < 5
    assert (status.state, status.cancelled, status.reason) == (State.CANCELLED, 50, "no longer needed")
    assert carriers(f"TASKENSEMBLE_RUN_ID={run.run_id}") == []


def test_a_failed_member_runs_again_in_its_folder_with_its_earlier_output_kept(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    program = "echo $TASKENSEMBLE_ATTEMPT $*; test -e mark && exit 0; touch mark; exit 5"
    policy = {"retries": 2, "restart_args": ("again",), "retry_delay": 0.2, "retry_on": (5,)}
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", program, "sh"], 1, args=[["first"]], policy=policy)
    assert plane.finish(plane.start(run, members)).state is State.COMPLETED
    folder = tmp_path / "plate/plate_0"
    assert (folder / "plate_0.out").read_text() == "2 again\n"
    assert (folder / "plate_0.out.1").read_text() == "1 first\n"
    kinds = [event.kind for event in plane.store.watch(run.run_id, timeout=5)]
    assert (kinds.count("retry"), kinds.count("start")) == (1, 2)


def test_retries_run_out_and_exit_codes_that_are_not_listed_are_not_retried(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/false"], 1, policy={"retries": 2})
    assert plane.finish(plane.start(run, members)).state is State.FAILED
    assert plane.store.attempts(run.run_id)[0].attempt == 3
    run, members = one_entity(tmp_path, ["/bin/false"], 1, policy={"retries": 2, "retry_on": (5,)})
    assert plane.finish(plane.start(run, members)).state is State.FAILED
    assert plane.store.attempts(run.run_id)[0].attempt == 1


def test_a_member_past_its_walltime_is_warned_then_ended(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1")
    program = "trap 'echo warned' USR1; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.5; done"
    policy = {"walltime": 1.5, "warn_before": 1.0, "grace": 0.5}
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", program], 1, policy=policy)
    assert plane.finish(plane.start(run, members)).state is State.FAILED
    assert plane.store.attempts(run.run_id)[0].reason == "walltime of 1.5 s is over"
    assert (tmp_path / "plate/plate_0/plate_0.out").read_text() == "warned\n"


def test_members_that_run_together_all_run_at_once(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    plane.worker("--slots", "2")
    program = (
        "import os, time, glob\nopen('here', 'w').close()\nwhile len(glob.glob('../*/here')) < 4: time.sleep(0.01)"
    )
    run, members = one_entity(tmp_path, [sys.executable, "-c", program], 4, together=True)
    assert plane.finish(plane.start(run, members)).state is State.COMPLETED


def test_an_entity_waits_for_those_before_it_and_is_cancelled_when_they_fail(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "4")
    commands = {"first": ["/bin/sleep", "0.3"], "second": ["/bin/false"], "third": ["/bin/true"]}
    entities = tuple(
        EntityRecord(
            index=i, name=name, kind="Model", path=str(tmp_path / name), first=i, size=1, after=(i - 1,) if i else ()
        )
        for i, name in enumerate(commands)
    )
    run = RunRecord(
        run_id="chain",
        experiment="exp",
        path=str(tmp_path),
        created=time.time(),
        entities=entities,
        templates=tuple(template(command) for command in commands.values()),
    )
    members = [MemberRecord(index=i, entity=i, template=i, name=name) for i, name in enumerate(commands)]
    assert plane.finish(plane.start(run, members)).state is State.FAILED
    first, second, third = plane.store.attempts("chain")
    assert (first.state, second.state, third.state) == (State.COMPLETED, State.FAILED, State.CANCELLED)
    assert first.ended is not None
    assert second.started is not None
    assert first.ended <= second.started
    assert plane.store.entity_status("chain")[2].counters.reason == "second failed"


def test_a_worker_takes_only_what_fits_its_node(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2", "--tag", "small")
    program = [
        sys.executable,
        "-c",
        "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ['TASKENSEMBLE_ATTEMPT'])",
    ]
    big, big_members = one_entity(tmp_path / "big", program, 2, resources={"cpus": 4, "gpus": 0.5})
    small, small_members = one_entity(tmp_path / "small", program, 2, resources={"tags": ("small",)})
    plane.start(big, big_members)
    assert plane.finish(plane.start(small, small_members)).state is State.COMPLETED
    assert plane.store.status(big.run_id).queued == 2
    plane.worker("--slots", "4", "--gpus", "5")
    assert plane.finish(big.run_id).state is State.COMPLETED
    assert (tmp_path / "big/plate/plate_0/plate_0.out").read_text() == "5 1\n"


def test_a_member_is_told_its_share_of_cpus_and_gpus(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2", "--gpus", "4,7")
    program = [
        sys.executable,
        "-c",
        "import os; print(*(os.environ[name] for name in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES')),"
        "len(os.sched_getaffinity(0)))",
    ]
    pair, pair_members = one_entity(tmp_path / "pair", program, 1, resources={"cpus": 2, "gpus": 2})
    half, half_members = one_entity(tmp_path / "half", program, 2, resources={"cpus": 1, "gpus": 0.5})
    for run, members in ((pair, pair_members), (half, half_members)):
        assert plane.finish(plane.start(run, members)).state is State.COMPLETED
    told = (tmp_path / "pair/plate/plate_0/plate_0.out").read_text().split()
    assert told[:3] == ["2", "4,7", "4,7"]
    # A worker that finds other workers on the CPUs it would take pins nobody.
    everything = len(os.sched_getaffinity(0))
    assert int(told[3]) in (2, everything)
    halves = [(tmp_path / f"half/plate/plate_{index}/plate_{index}.out").read_text().split() for index in (0, 1)]
    assert [each[:3] for each in halves] == [["1", "4", "4"]] * 2
    assert all(int(each[3]) in (1, everything) for each in halves)


def gpus_seen_without_asking(plane: Plane, folder: Path, **env: str) -> str:
    show = ["/bin/sh", "-c", "echo ${CUDA_VISIBLE_DEVICES-unset} ${ROCR_VISIBLE_DEVICES-unset}"]
    run, members = one_entity(folder, show)
    run = run.model_copy(update={"templates": (run.templates[0].model_copy(update={"env": env}),)})
    assert plane.finish(plane.start(run, members)).state is State.COMPLETED
    return (folder / "plate/plate_0/plate_0.out").read_text()


def test_a_member_that_asks_for_no_gpu_sees_none_of_those_that_its_worker_gives_out(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "0,1,2,3")
    plane.worker("--gpus", "2,3")
    assert gpus_seen_without_asking(plane, tmp_path / "none") == "\n"
    assert gpus_seen_without_asking(plane, tmp_path / "own", CUDA_VISIBLE_DEVICES="1") == "1\n"


def test_a_worker_that_was_not_told_of_gpus_leaves_the_variables_alone(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("ROCR_VISIBLE_DEVICES", raising=False)
    plane.worker()
    assert gpus_seen_without_asking(plane, tmp_path) == "0,1 unset\n"


def test_duplicate_and_stale_messages_change_nothing(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "4")
    journal = tmp_path / "journal"
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", f"echo $TASKENSEMBLE_MEMBER >> {journal}; sleep 0.3"], 3)
    plane.store.write_run(run, members)
    publisher = messages.Publisher(plane.broker_url)
    twins = [messages.member_message(run, i, 0, 0, name=f"plate_{i}") for i in (2, 1, 0)] * 3
    publisher.publish([messages.setup_message(run), messages.setup_message(run)])
    until(lambda: plane.store.status(run.run_id).running, "it runs")
    publisher.publish(twins)
    plane.finish(run.run_id)
    publisher.publish(twins)
    publisher.publish([messages.completion_message(run, 0), messages.setup_message(run)])
    until(lambda: not publisher.length(messages.SERVICE_QUEUE), "all is read")
    assert sorted(journal.read_text().split()) == ["plate_0", "plate_1", "plate_2"]
    assert plane.store.status(run.run_id).completed == 3


def test_what_a_member_leaves_behind_ends_with_it(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    program = "setsid sleep 600 & (setsid sh -c 'sleep 601 & sleep 602' &) ; sleep 603 & exit 0"
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", program], 2)
    assert plane.finish(plane.start(run, members)).completed == 2
    assert carriers(f"TASKENSEMBLE_RUN_ID={run.run_id}") == []


def test_output_beyond_the_limit_is_dropped_and_a_member_too_large_is_ended(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", "yes | head -c 3000000"], 1, policy={"output_limit": 100_000})
    assert plane.finish(plane.start(run, members)).state is State.COMPLETED
    output = (tmp_path / "plate/plate_0/plate_0.out").read_text()
    assert len(output) < 101_000
    assert "output_limit reached" in output
    program = "import time; x = b'x' * 300_000_000; time.sleep(60)"
    run, members = one_entity(tmp_path, [sys.executable, "-c", program], 1, resources={"memory_mb": 100})
    assert plane.finish(plane.start(run, members)).state is State.FAILED
    assert plane.store.attempts(run.run_id)[0].reason == "used more than its 100 MiB of memory"


def test_a_stopped_worker_lets_members_end_and_leaves_nothing(plane: Plane, tmp_path: Path) -> None:
    worker = plane.worker("--slots", "2")
    run, members = one_entity(tmp_path, ["/bin/sleep", "1"], 3)
    plane.start(run, members)
    until(lambda: plane.store.status(run.run_id).running == 2, "two run")
    worker.terminate()
    assert worker.wait(20) == 0
    status = plane.store.status(run.run_id)
    assert (status.completed, status.queued) == (2, 1)
    assert plane.store.workers() == []
    plane.worker("--slots", "2")
    assert plane.finish(run.run_id).completed == 3


def test_members_of_a_worker_that_is_stopped_and_cannot_wait_run_elsewhere(plane: Plane, tmp_path: Path) -> None:
    worker = plane.worker("--slots", "1", "--drain", "0.2")
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", "test $TASKENSEMBLE_ATTEMPT = 2 || sleep 600"], 1)
    plane.start(run, members)
    until(lambda: plane.store.status(run.run_id).running == 1, "it runs")
    worker.terminate()
    assert worker.wait(20) == 0
    plane.worker("--slots", "1")
    assert plane.finish(run.run_id).completed == 1
    assert not alive(worker.pid)


def test_members_that_need_the_whole_worker_are_not_starved_by_small_ones(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    small, small_members = one_entity(tmp_path / "small", ["/bin/sleep", "0.4"], 300)
    large, large_members = one_entity(tmp_path / "large", ["/bin/true"], 1, resources={"cpus": 2})
    plane.start(small, small_members)
    until(lambda: plane.store.status(small.run_id).running == 2, "small ones run")
    plane.start(large, large_members)
    assert plane.finish(large.run_id, 60).completed == 1
    assert plane.store.status(small.run_id).queued
    plane.store.cancel(small.run_id)


def test_a_run_of_many_short_members_does_not_hold_up_one_that_is_started_later(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    many, many_members = one_entity(tmp_path / "many", ["/bin/true"], 20_000)
    plane.start(many, many_members)
    until(lambda: plane.store.status(many.run_id).completed > 200, "the worker knows how short they are")
    for program in ("/bin/true", "/bin/sleep"):
        late, late_members = one_entity(tmp_path / program[-5:], [program, "1.5"], 6)
        plane.start(late, late_members)
        assert plane.finish(late.run_id, 60).completed == 6
        done = plane.store.status(many.run_id).completed
        assert plane.store.status(many.run_id).queued
        until(lambda done=done: plane.store.status(many.run_id).completed > done, "the first run goes on")  # type: ignore[misc]
    plane.store.cancel(many.run_id)


def test_outputs_of_completed_members_are_dropped_where_only_failures_matter(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    run, members = one_entity(
        tmp_path, ["/bin/sh", "-c", "echo $1; exit $1", "sh"], 2, args=[["0"], ["1"]], policy={"keep_outputs": "failed"}
    )
    plane.finish(plane.start(run, members))
    assert not (tmp_path / "plate/plate_0/plate_0.out").exists()
    assert (tmp_path / "plate/plate_1/plate_1.out").read_text() == "1\n"
    # Inodes are scarce where there are many members: a failed one leaves no empty file either.
    assert not list(tmp_path.glob("plate/*/*.err"))


@pytest.mark.parametrize("events", ["on", "off"])
def test_flower_is_told_of_members_unless_events_are_off(plane: Plane, tmp_path: Path, events: str) -> None:
    with redis.Redis.from_url(plane.broker_url) as client, client.pubsub() as listener:
        listener.psubscribe("*celeryev/*")
        plane.worker("--slots", "1", "--events", events)
        run, members = one_entity(tmp_path, ["/bin/true"], 1)
        assert plane.finish(plane.start(run, members)).completed == 1
        heard: list[str] = []

        def listen() -> bool:
            message = listener.get_message(timeout=0.2)
            if message and message["type"] == "pmessage":
                heard.append(message["channel"].decode().rpartition("/")[2])
            # Batches leave ten times a second: two heartbeats later nothing is on its way.
            return "task.multi" in heard or heard.count("worker.heartbeat") >= 3

        until(listen, "its events", 40)
        assert ("task.multi" in heard) == (events == "on"), heard


def test_a_users_own_workers_module_does_not_shadow_ours(plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "workers.py").write_text("raise SystemExit('the wrong one')\n")
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/true"], 1)
    assert plane.finish(plane.start(run, members)).completed == 1


def test_a_member_that_cannot_have_its_folder_fails_with_the_reason_and_others_go_on(
    plane: Plane, tmp_path: Path
) -> None:
    plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/true"], 2)
    (tmp_path / "plate").mkdir()
    (tmp_path / "plate/plate_0").write_text("in the way")
    status = plane.finish(plane.start(run, members))
    assert (status.completed, status.failed) == (1, 1)
    assert "plate_0" in plane.store.attempts(run.run_id, [0])[0].reason


def test_what_no_worker_could_ever_run_says_so_and_has_failed_after_a_while(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "2")
    run, members = one_entity(tmp_path, ["/bin/true"], 2, resources={"cpus": 2, "gpus": 2})
    run = run.model_copy(update={"wait_for_worker": 3.0, "templates": (*run.templates, template(["/bin/true"]))})
    members[0] = members[0].model_copy(update={"template": 1})
    plane.start(run, members)
    until(lambda: plane.store.waits(run.run_id) == {0: "waits for 2 GPUs; the largest worker has 0"}, "it says so")
    until(lambda: "plate of" in plane.log("w0"), "and its worker does")
    status = plane.finish(run.run_id)
    assert (status.completed, status.failed) == (1, 1)
    attempt = plane.store.attempts(run.run_id)[1]
    assert attempt.reason == "no worker could run it for 3 s: it waited for 2 GPUs; the largest worker has 0"
    assert plane.store.waits(run.run_id) == {}


def test_two_entities_that_run_together_do_not_hold_each_others_slots(plane: Plane, tmp_path: Path) -> None:
    for _ in range(2):
        plane.worker("--slots", "2")
    runs = [one_entity(tmp_path / str(number), ["/bin/sleep", "0.3"], 3, together=True) for number in range(4)]
    tall, members = one_entity(tmp_path / "tall", ["/bin/true"], 5, together=True)
    tall = tall.model_copy(update={"wait_for_worker": 6.0})
    plane.start(tall, members)
    until(lambda: plane.store.gangs() or plane.store.waits(tall.run_id), "it waits")
    for run, members in runs:
        plane.start(run, members)
    for run, _ in runs:
        assert plane.finish(run.run_id, 60).completed == 3
        starts = [attempt.started or 0.0 for attempt in plane.store.attempts(run.run_id)]
        assert max(starts) - min(starts) < 0.3
    assert plane.finish(tall.run_id).failed == 5
    assert (
        "room for 5 members at once; the workers together have room for 4"
        in plane.store.attempts(tall.run_id)[0].reason
    )
    assert plane.store.gangs() == []


def test_enough_members_are_as_many_as_were_asked_for(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "4")
    run, members = one_entity(tmp_path, ["/bin/true"], 40, enough=7)
    plane.start(run, members)
    status = plane.finish(run.run_id)
    assert (status.state, status.completed, status.cancelled) == (State.COMPLETED, 7, 33)
    run, members = one_entity(tmp_path / "f", ["/bin/false"], 40, on_failure="stop:5")
    plane.start(run, members)
    status = plane.finish(run.run_id)
    assert (status.state, status.failed, status.cancelled) == (State.FAILED, 5, 35)


def test_a_worker_logs_lines_of_json_with_run_member_and_attempt(plane: Plane, tmp_path: Path) -> None:
    plane.worker("--slots", "1", "--log-format", "json")
    run, members = one_entity(tmp_path, ["/bin/sh", "-c", "exit 4"], 1, policy={"retries": 1})
    plane.start(run, members)
    assert plane.finish(run.run_id).failed == 1
    until(lambda: "(zero)" in plane.log("w0"), "its end is logged")
    lines = [json.loads(line) for line in plane.log("w0").splitlines()]
    assert {line["worker"] for line in lines} == {"w0"}
    about = [line for line in lines if line.get("run") == run.run_id]
    assert [(line["member"], line["attempt"]) for line in about] == [("plate_0", number) for number in (1, 1, 2, 2)]
    assert about[0]["message"] == f"plate_0 of {run.run_id} starts, attempt 1"
    assert "failed after" in about[-1]["message"]
    assert (about[0]["level"], about[0]["time"][-6:]) == ("INFO", "+00:00")


def test_a_message_that_comes_when_its_run_has_ended_leaves_no_queue_behind(plane: Plane, tmp_path: Path) -> None:
    worker = plane.worker("--slots", "1")
    run, members = one_entity(tmp_path, ["/bin/true"], 1)
    plane.finish(plane.start(run, members))
    until(lambda: not plane.store.queues(), "its queue is off the list")
    worker.terminate()
    assert worker.wait(30) == 0  # the one who still reads it
    publisher = messages.Publisher(plane.broker_url)
    late = messages.member_message(run, 0, 0, 0, name="plate_0")
    (queue,) = messages.run_queues(run)
    publisher.publish([late])
    plane.worker("--slots", "1")
    until(lambda: not publisher.length(queue.name), "the queue is gone", 20)
    publisher.close()
