"""Runs of an experiment with its embedded control plane: real servers, workers and members."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskensemble import Experiment, Status, handle
from taskensemble.errors import EntityExistsError, InputError, RunNotFoundError
from tests.integration.experiment.drivers import eventually

PYTHON = sys.executable


def shell(exp: Experiment, command: str) -> Any:
    return exp.create_run_settings(exe="/bin/sh", exe_args=["-c", command])


def test_members_run_with_their_parameters_and_leave_results(exp: Experiment, tmp_path: Path) -> None:
    (tmp_path / "plate.in").write_text("thermo ;THERMO;\n")
    (tmp_path / "simulate.py").write_text(
        "import json, sys\n"
        "value = float(open('plate.in').read().split()[1])\n"
        "json.dump({'double': 2 * value, 'args': sys.argv[1:]}, open('result.json', 'w'))\n"
        "print('simulated', value)\n"
    )
    program = exp.create_run_settings(exe=PYTHON, exe_args="simulate.py")
    ensemble = exp.create_ensemble(
        "plate", params={"THERMO": [95, 100], "STEPS": [50]}, params_as_args=["STEPS"], run_settings=program
    )
    ensemble.attach_generator_files(to_configure="plate.in", to_copy="simulate.py")
    run = exp.start(ensemble, quiet=True)
    assert run.status().completed == 2
    rows = exp.results(ensemble)
    assert [row["name"] for row in rows] == ["plate_0", "plate_1"]
    assert [row["params"] for row in rows] == [{"THERMO": "95", "STEPS": "50"}, {"THERMO": "100", "STEPS": "50"}]
    assert [row["result"]["double"] for row in rows] == [190.0, 200.0]
    assert rows[0]["result"]["args"] == ["--STEPS=50"]
    assert rows[0]["state"] == "Completed"
    assert rows[0]["returncode"] == 0
    assert rows[0]["ended"] >= rows[0]["started"] >= run.record.created - 1
    assert (tmp_path / "exp" / "plate" / "plate_1" / "plate_1.out").read_text() == "simulated 100.0\n"


def test_a_run_of_one_member_is_seen_to_end_at_once_and_many_events_are_looked_at_together(
    exp: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=lambda seconds: pauses.append(seconds))
    monkeypatch.setattr(handle, "time", clock)
    run = exp.start(exp.create_model("one", shell(exp, "true")), quiet=True)
    assert pauses == []
    begun = time.monotonic()
    for _ in range(2 * handle.AT_ONCE):
        run._rest()
    gone = time.monotonic() - begun + sum(pauses)
    assert gone >= (handle.AT_ONCE - 1) * handle.PAUSE


def test_results_are_a_data_frame_with_flat_columns_where_pandas_is(exp: Experiment) -> None:
    pytest.importorskip("pandas")
    program = shell(exp, 'echo "{\\"x\\": 1}" > result.json')
    ensemble = exp.create_ensemble("flat", params={"A": [1, 2]}, run_settings=program)
    exp.start(ensemble, quiet=True)
    frame = exp.results(ensemble, frame=True)
    assert list(frame["params.A"]) == ["1", "2"]
    assert list(frame["result.x"]) == [1, 1]


@pytest.mark.parametrize(
    ("policy", "ahead"), [({}, False), ({"keep_outputs": "failed"}, False), ({"keep_outputs": "failed"}, True)]
)
def test_a_member_that_fails_in_a_second_run_does_not_show_the_first_runs_result(
    exp: Experiment, policy: dict[str, Any], ahead: bool
) -> None:
    program = shell(exp, 'test -e ../../second && exit 1; echo "{\\"x\\": 1}" > result.json')
    ensemble = exp.create_ensemble("again", replicas=1, run_settings=program, **policy)
    if ahead:
        exp.generate(ensemble)
    first = exp.start(ensemble, quiet=True)
    assert exp.results(ensemble)[0]["result"] == {"x": 1}
    (Path(exp.exp_path) / "second").touch()
    exp.start(ensemble, quiet=True)
    assert exp.results(ensemble)[0]["result"] is None
    assert (Path(exp.exp_path) / "again" / "again_0" / "result.json.1").exists()
    (Path(exp.exp_path) / "second").unlink()
    exp.start(ensemble, quiet=True)
    assert exp.results(ensemble)[0]["result"] == {"x": 1}
    assert first.results()[0]["result"] is None


def test_one_failing_member_of_20_leaves_19_completed_and_the_summary_names_it_and_its_log(
    exp: Experiment, capfd: pytest.CaptureFixture[str]
) -> None:
    program = shell(exp, 'case "$TASKENSEMBLE_MEMBER" in *_13) echo broken >&2; exit 3;; esac')
    ensemble = exp.create_ensemble("many", replicas=20, run_settings=program)
    run = exp.start(ensemble, summary=True)
    status = run.status()
    assert (status.completed, status.failed, status.state) == (19, 1, Status.FAILED)
    log = Path(exp.exp_path) / "many" / "many_13" / "many_13.err"
    assert log.read_text() == "broken\n"
    printed = capfd.readouterr()
    assert "many_13" in printed.out
    assert str(log) in printed.out
    assert "19 completed, 1 failed" in printed.out
    assert str(log) in printed.err
    assert [str(state) for state in exp.get_status(ensemble)].count("Completed") == 19
    assert exp.get_status(ensemble)[13] is Status.FAILED
    assert exp.get_status(ensemble[13]) == [Status.FAILED]


def test_a_second_start_is_a_new_run_and_the_history_is_kept(exp: Experiment) -> None:
    ensemble = exp.create_ensemble("twice", replicas=2, run_settings=shell(exp, "echo $TASKENSEMBLE_RUN_ID"))
    first = exp.start(ensemble, quiet=True)
    second = exp.start(ensemble, quiet=True)
    assert first.run_id != second.run_id
    assert first.status().completed == second.status().completed == 2
    output = Path(exp.exp_path) / "twice" / "twice_0" / "twice_0.out"
    assert output.read_text().strip() == second.run_id
    lines = exp.summary(style="plain").splitlines()
    assert len(lines) == 5
    assert [line.split()[4] for line in lines[1:]] == ["0", "0", "1", "1"]
    assert {row["run_id"] for row in exp.results(ensemble)} == {second.run_id}


def test_stop_during_a_run_ends_every_process_within_the_grace_period(exp: Experiment, tmp_path: Path) -> None:
    forever = "trap '' TERM; while :; do sleep 1; done"
    command = f"({forever}) & echo $! > child; echo $$ > pid; {forever}"
    ensemble = exp.create_ensemble("stubborn", replicas=4, run_settings=shell(exp, command), grace=1)
    exp.start(ensemble, block=False)
    folder = Path(exp.exp_path) / "stubborn"
    eventually(lambda: len(list(folder.glob("*/pid"))) == 2)
    begun = time.monotonic()
    exp.stop(ensemble)
    assert time.monotonic() - begun < 15
    assert exp.get_status(ensemble) == [Status.CANCELLED] * 4
    for file in folder.glob("*/*"):
        if file.name in ("pid", "child"):
            assert not Path(f"/proc/{file.read_text().strip()}").exists()
    exp.stop(ensemble)


def test_a_handle_waits_with_a_deadline_and_stops_its_own_run(exp: Experiment) -> None:
    ensemble = exp.create_ensemble("slow", replicas=3, run_settings=shell(exp, "sleep 600"), grace=1)
    run = exp.start(ensemble, block=False)
    with pytest.raises(TimeoutError, match=run.run_id):
        run.wait(timeout=0.5)
    assert not run.finished()
    assert not exp.finished(ensemble)
    assert run.stop().cancelled == 3
    assert run.wait(timeout=1).state is Status.CANCELLED
    assert exp.finished(ensemble)


def test_what_still_runs_is_not_started_again(exp: Experiment) -> None:
    model = exp.create_model("slow", shell(exp, "sleep 600"), grace=1)
    exp.start(model, block=False)
    with pytest.raises(EntityExistsError, match="slow"):
        exp.start(model)
    exp.stop(model)


def test_several_entities_start_at_once_and_a_consumer_after_its_producer(exp: Experiment) -> None:
    produce = exp.create_ensemble("produce", replicas=2, run_settings=shell(exp, "sleep 0.3; date +%s%N > made"))
    consume = exp.create_model("consume", shell(exp, "ls ../produce/*/made | wc -l"), depends_on=produce)
    run = exp.start(consume, produce, quiet=True)
    assert run.status().completed == 3
    assert (Path(exp.exp_path) / "consume" / "consume.out").read_text().strip() == "2"
    assert exp.get_status(produce, consume) == [Status.COMPLETED] * 3


def test_statuses_come_models_first_then_members_and_never_started_before_a_start(exp: Experiment) -> None:
    ensemble = exp.create_ensemble("members", replicas=2, run_settings=shell(exp, "exit 1"))
    model = exp.create_model("model", shell(exp, "true"))
    assert exp.get_status(ensemble, model) == [Status.NEVER_STARTED] * 3
    exp.start(ensemble, model, quiet=True)
    assert exp.get_status(ensemble, model) == [Status.COMPLETED, Status.FAILED, Status.FAILED]
    assert [str(status) for status in exp.get_status(model)] == ["Completed"]


def test_poll_waits_for_everything_that_was_started(exp: Experiment, capfd: pytest.CaptureFixture[str]) -> None:
    first = exp.create_model("first", shell(exp, "sleep 0.5"))
    second = exp.create_model("second", shell(exp, "sleep 0.5"))
    exp.start(first, block=False)
    exp.start(second, block=False)
    exp.poll(verbose=False)
    assert exp.get_status(first, second) == [Status.COMPLETED] * 2
    assert capfd.readouterr().err == ""


def test_quiet_shows_nothing_and_else_there_are_plain_lines(exp: Experiment, capfd: pytest.CaptureFixture[str]) -> None:
    model = exp.create_model("model", shell(exp, "true"))
    exp.start(model, quiet=True)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    run = exp.start(model)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert f"{run.run_id}: 1/1 ended, completed" in printed.err


def test_resume_runs_only_what_failed_in_the_folders_it_has(exp: Experiment) -> None:
    command = "echo x >> count; case $TASKENSEMBLE_MEMBER in *_1) test $(wc -l < count) -gt 1;; esac"
    ensemble = exp.create_ensemble("partly", replicas=3, run_settings=shell(exp, command))
    first = exp.start(ensemble, quiet=True)
    assert first.status().failed == 1
    second = exp.resume(first.run_id, quiet=True)
    assert second.record.parent == first.run_id
    assert second.status().completed == second.record.size == 1
    folder = Path(exp.exp_path) / "partly"
    counts = [len((folder / f"partly_{index}" / "count").read_text().splitlines()) for index in range(3)]
    assert counts == [1, 2, 1]
    assert exp.resume(second.run_id).run_id == second.run_id
    # The whole ensemble, for this driver and for one that takes up the latest run.
    again = Experiment("again", exp_path=exp.exp_path)
    again.reconnect(second.run_id)
    for each in (exp, again):
        assert each.get_status(ensemble) == [Status.COMPLETED] * 3
        rows = each.results(ensemble)
        assert [row["name"] for row in rows] == ["partly_0", "partly_1", "partly_2"]
        assert [row["run_id"] for row in rows] == [first.run_id, second.run_id, first.run_id]


def test_an_adaptive_ensemble_asks_its_generator_for_each_next_round(exp: Experiment) -> None:
    program = exp.create_run_settings(
        exe=PYTHON,
        exe_args=[
            "-c",
            "import json, sys; json.dump({'y': (float(sys.argv[1].split('=')[1]) - 3) ** 2}, open('result.json', 'w'))",
        ],
    )
    seen: list[list[float]] = []

    def halve() -> Any:
        low, high = 0.0, 8.0
        for _ in range(3):
            thirds = [low + (high - low) / 3, high - (high - low) / 3]
            rows = yield [{"xx": value} for value in thirds]
            values = [row["result"]["y"] for row in rows]
            seen.append(values)
            low, high = (low, thirds[1]) if values[0] < values[1] else (thirds[0], high)

    model = exp.create_model("search", program, params_as_args=["xx"], params={"xx": 0})
    handle = exp.start_adaptive(model, halve(), quiet=True)
    assert exp.results(model) == handle.results()
    assert len(seen) == len(handle.rounds) == 3
    assert [row["name"] for row in handle.results()] == [f"search_{index}" for index in range(6)]
    assert handle.rounds[2].record.parent == handle.rounds[1].run_id
    assert min(seen[2]) < min(seen[0])


def test_members_together_all_start_or_the_run_says_that_they_never_can(exp: Experiment) -> None:
    meet = "touch here; while [ $(ls ../*/here | wc -l) -lt 2 ]; do sleep 0.05; done"
    pair = exp.create_ensemble("pair", replicas=2, run_settings=shell(exp, meet))
    assert exp.start(pair, together=True, quiet=True).status().completed == 2


def test_what_was_never_started_can_be_neither_stopped_nor_finished(exp: Experiment) -> None:
    model = exp.create_model("model", shell(exp, "true"))
    with pytest.raises(RunNotFoundError, match="model"):
        exp.stop(model)
    with pytest.raises(InputError, match="model"):
        exp.finished(model)
    with pytest.raises(RunNotFoundError, match="nothing-1234"):
        exp.reconnect("nothing-1234")


def test_a_member_is_stopped_alone_and_the_others_go_on(exp: Experiment, tmp_path: Path) -> None:
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    ensemble = exp.create_ensemble("three", replicas=3, run_settings=shell(exp, script), grace=1)
    run = exp.start(ensemble, block=False)
    exp.stop(ensemble["three_0"])
    run.stop_members(["three_2"], reason="not this one")
    (tmp_path / "go").touch()
    status = run.wait(60)
    assert (status.completed, status.cancelled, status.state) == (1, 2, Status.CANCELLED)
    found = {member.name: (attempt.state, attempt.reason) for member, attempt in run.members()}
    assert found == {
        "three_0": (Status.CANCELLED, "stopped by the driver"),
        "three_1": (Status.COMPLETED, ""),
        "three_2": (Status.CANCELLED, "not this one"),
    }
    with pytest.raises(RunNotFoundError, match="three_9"):
        run.stop_members(["three_9"])


def test_preview_prints_the_commands_and_starts_nothing(
    exp: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble = exp.create_ensemble("plate", params={"T": [1, 2]}, params_as_args=["T"], run_settings=shell(exp, "true"))
    exp.preview(ensemble, verbosity_level="debug")
    assert "plate_1: T=2" in capsys.readouterr().out
    exp.preview(ensemble, verbosity_level="developer", output_format="json", output_filename="plan.json")
    described = json.loads(Path("plan.json").read_text())
    assert [member["name"] for member in described["entities"][0]["members"]] == ["plate_0", "plate_1"]
    assert described["record"]["entities"][0]["size"] == 2
    assert not (tmp_path / "exp").exists()


def test_a_model_of_an_unwritable_folder_or_missing_interpreter_is_a_failed_member(exp: Experiment) -> None:
    model = exp.create_model("gone", shell(exp, "true"))
    model.run_settings.exe = ["/nonexistent/program"]  # type: ignore[union-attr]
    run = exp.start(model, quiet=True)
    assert run.status().failed == 1
    assert "/nonexistent/program" in exp.results(model)[0]["reason"]
