"""A SmartSim driver, unchanged, run by taskensemble."""

import os
import subprocess
import sys

DRIVER = """
import json
import os
import sys
from smartsim import Experiment
from smartsim.database import Orchestrator
from smartsim.error import SmartSimError
from smartsim.status import SmartSimStatus
from smartsim.settings import RunSettings

exp = Experiment("coupled", exp_path=sys.argv[1], launcher="local")
# Each waits until all the others have begun: SmartSim starts them all at once, whatever the number of cores.
waiter = '''
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / f"here_{os.getpid()}").touch()
deadline = time.monotonic() + 60
while len(list(folder.glob("here_*"))) < int(sys.argv[2]):
    if time.monotonic() > deadline:
        sys.exit(1)
    time.sleep(0.05)
'''
count = 2 * os.cpu_count() + 1
settings = exp.create_run_settings(sys.executable, ["-c", waiter, sys.argv[1], str(count)])
coupled = exp.create_ensemble("member", replicas=count, run_settings=settings)
template = os.path.join(sys.argv[1], "in.txt")
with open(template, "w") as stream:
    stream.write("T = ;THERMO;")
shown = exp.create_ensemble(
    "shown", {"THERMO": [1, 2]}, run_settings=RunSettings("cat", "in.txt"), replicas=7, perm_strategy="step"
)
shown.attach_generator_files(to_configure=template)
exp.generate(coupled, shown)
exp.start(coupled, shown, block=True, summary=True)
assert exp.get_status(coupled) == [SmartSimStatus.STATUS_COMPLETED] * count
assert len(shown) == 2
assert [open(os.path.join(m.path, m.name + ".out")).read() for m in shown] == ["T = 1", "T = 2"]
# What members print is kept for each run below the experiment's folder; the members' own folders link to the latest.
link = os.path.join(shown[1].path, "shown_1.out")
first = os.readlink(link)
assert first.startswith(os.path.join(exp.exp_path, ".smartsim", "telemetry", "coupled")), first
assert first.endswith(os.path.join("ensemble", "shown", "shown_1", "shown_1.out")), first
exp.start(shown, block=True)
assert os.readlink(link) != first
assert open(first).read() == open(link).read() == "T = 2"
assert len(exp._control._jobs.completed) == count + 2
assert exp._control._jobs.jobs == exp._control.active_orchestrator_jobs == {}
assert os.path.isfile(os.path.join(shown["shown_1"].path, "smartsim_params.txt"))
try:
    exp.start(exp.create_ensemble("assets", {"THERMO": 1}, run_settings=settings), exp.create_model("assets", settings))
except SmartSimError:
    pass
else:
    raise SystemExit("two entities of one name were started")
rows = exp.summary(style="plain").splitlines()
assert len(rows) == 1 + count + 4, rows
with open(os.path.join(sys.argv[1], ".smartsim/telemetry/manifest.json")) as stream:
    recorded = json.load(stream)["runs"][0]["ensemble"]
assert [model["name"] for model in recorded[1]["models"]] == ["shown_0", "shown_1"]
# Another experiment takes a database up by the file that SmartSim's manual names, as an Orchestrator.
database = exp.create_database(port=0)
exp.start(database)
assert os.path.islink(os.path.join(database.path, "orchestrator_0.out"))
assert list(exp._control.active_orchestrator_jobs) == ["orchestrator"]
other = Experiment("other", exp_path=sys.argv[1])
again = other.reconnect_orchestrator(os.path.join(sys.argv[1], "orchestrator", "smartsim_db.dat"))
assert isinstance(again, Orchestrator) and again.get_address() == database.get_address()
other.stop(again)
assert not os.path.exists(again.checkpoint_file) and not database.is_active()
# `block` waits for what was started before as well.
slow = exp.create_model("slow", RunSettings("sleep", "1"))
exp.start(slow, block=False)
exp.start(exp.create_model("quick", RunSettings("true")), block=True)
assert exp.get_status(slow) == [SmartSimStatus.STATUS_COMPLETED]
print("driver done")
"""


def test_a_smartsim_driver_runs_unchanged_and_its_members_start_at_once(tmp_path):
    start = f"import taskensemble.smartsim, sys; taskensemble.smartsim.install(); exec(compile({DRIVER!r}, 'driver.py', 'exec'))"
    done = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "driver done" in done.stdout


INTERRUPTED = """
import os, pathlib, signal, sys, threading, time
from smartsim import Experiment
from smartsim.status import SmartSimStatus

folder, count = pathlib.Path(sys.argv[1]), 3
sleeper = f"import os, pathlib, time; pathlib.Path({str(folder)!r}, str(os.getpid())).touch(); time.sleep(600)"
def interrupt():
    deadline = time.monotonic() + 60
    while len(list(folder.glob("[0-9]*"))) < 2 * count and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

experiments = [Experiment(name, exp_path=str(folder)) for name in ("one", "two")]
threading.Thread(target=interrupt, daemon=True).start()
entities = []
try:
    for number, exp in enumerate(experiments):
        settings = exp.create_run_settings(sys.executable, ["-c", sleeper])
        model = exp.create_model(f"model_{number}", settings)
        ensemble = exp.create_ensemble(f"ensemble_{number}", run_settings=settings, replicas=count - 1)
        entities.append((model, ensemble))
        exp.start(model, ensemble, block=False, kill_on_interrupt=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted")
for exp, started in zip(experiments, entities):
    assert exp.get_status(*started) == [SmartSimStatus.STATUS_CANCELLED] * count
    assert (len(exp._control._jobs.jobs), len(exp._control._jobs.completed)) == (0, count)
for path in folder.glob("[0-9]*"):
    try:
        os.kill(int(path.name), 0)
    except ProcessLookupError:
        continue
    raise SystemExit(f"process {path.name} is still there")
"""


def test_ctrl_c_stops_what_was_started_without_waiting_before_the_driver_sees_it(tmp_path):
    driver, folder = tmp_path / "driver.py", tmp_path / "experiments"
    driver.write_text(INTERRUPTED)
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "taskensemble", "run", "--smartsim", str(driver), str(folder)],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "interrupted" in done.stdout


def test_a_suite_of_smartsim_drivers_runs_with_pytest_as_a_module(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import smartsim\nfrom smartsim.settings import RunSettings\n"
        "def test_it(tmp_path):\n"
        "    exp = smartsim.Experiment('e', exp_path=str(tmp_path))\n"
        "    model = exp.create_model('m', RunSettings('true'))\n"
        "    exp.start(model)\n"
        "    assert exp.finished(model)\n"
    )
    command = [sys.executable, "-m", "taskensemble", "run", "--smartsim", "-m"]
    done = subprocess.run(
        [*command, "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    done = subprocess.run([*command[:-1], "nowhere.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
