"""Where SmartSim's rules hold: replicas, paths, records, statuses; and what a SmartSim driver sees otherwise."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tabulate import tabulate

import taskensemble.entity
from taskensemble.smartsim import Experiment, log
from taskensemble.smartsim._core.generation import Generator
from taskensemble.smartsim.database import Orchestrator
from taskensemble.smartsim.entity import DBModel, DBScript, Ensemble, EntityList, EntitySequence, Model, SmartSimEntity
from taskensemble.smartsim.entity.files import EntityFiles
from taskensemble.smartsim.entity.strategies import create_all_permutations, random_permutations, step_values
from taskensemble.smartsim.error import SmartSimError, SSUnsupportedError
from taskensemble.smartsim.settings import DragonRunSettings, RunSettings
from taskensemble.smartsim.status import SmartSimStatus


@pytest.fixture
def experiment(tmp_path):
    return Experiment("exp", exp_path=str(tmp_path))


@pytest.fixture
def settings():
    return RunSettings(sys.executable, exe_args="sleep.py")


def test_factories_make_smartsims_classes(experiment, settings):
    model, ensemble, database = (
        experiment.create_model("m", settings),
        experiment.create_ensemble("e", run_settings=settings, replicas=2),
        experiment.create_database(port=6780),
    )
    assert (type(model), type(ensemble), type(database), type(ensemble[0])) == (Model, Ensemble, Orchestrator, Model)
    assert database.checkpoint_file == f"{experiment.exp_path}/orchestrator/smartsim_db.dat"
    assert (model.type, ensemble.type, database.type) == ("Model", "Ensemble", "Orchestrator")
    assert isinstance(model, SmartSimEntity)
    assert isinstance(ensemble, EntityList)
    assert isinstance(database, EntitySequence)
    assert isinstance(model, taskensemble.entity.Model)


def test_replicas_are_ignored_beside_parameters(experiment, settings):
    ensemble = experiment.create_ensemble("e", {"a": [1, 2]}, run_settings=settings, replicas=5)
    assert len(ensemble) == 2
    assert ensemble.replicas == 5


def test_members_folders_have_no_level_between_whatever_their_number(settings):
    ensemble = Ensemble("e", {"a": list(range(1500))}, "/x", run_settings=settings)
    assert ensemble[1499].path == "/x/e_1499"


def test_a_path_may_be_anything(settings):
    assert Model("m", {}, settings, "./").path.startswith("/")
    assert Model("m", {"z": 6}, "", settings).name == "m"
    assert Orchestrator(6780).name == "orchestrator"
    older = Model("m", {}, "./there", settings)
    assert (older.run_settings, older.path) == (settings, str(Path("there").resolve()))
    settings.set_task_map(3)


def test_lists_of_entities_are_not_made_themselves():
    with pytest.raises(NotImplementedError):
        EntityList("list", ".", perm_strat="all_perm")


def test_strategies_are_functions_too():
    names, values = ["h", "g"], [["1", "2"], ["3", "4"]]
    assert create_all_permutations(names, values) == [{"h": h, "g": g} for h in "12" for g in "34"]
    assert step_values(names, values) == [{"h": "1", "g": "3"}, {"h": "2", "g": "4"}]
    assert len(random_permutations(names, values, 3)) == 3
    assert len(random_permutations(names, values)) == 4


def test_dragons_settings_can_be_made_but_not_started(experiment):
    settings = DragonRunSettings("echo", exe_args=["1"])
    settings.set_nodes(3)
    settings.set_tasks_per_node(2)
    settings.set_cpu_affinity(range(3))
    settings.set_gpu_affinity([0, 1])
    settings.set_node_feature("gpu big")
    assert settings.run_args == {
        "nodes": 3,
        "tasks-per-node": 2,
        "cpu-affinity": "0,1,2",
        "gpu-affinity": "0,1",
        "node-feature": "gpu,big",
    }
    with pytest.raises(TypeError, match="feature_list must be string or list of strings"):
        settings.set_node_feature(["gpu", 1])
    with pytest.raises(SSUnsupportedError, match="create_run_settings"):
        experiment.start(experiment.create_model("m", settings))


def test_telemetry_is_a_switch(experiment, monkeypatch, tmp_path):
    assert experiment.telemetry.is_enabled
    experiment.telemetry.disable()
    assert not experiment.telemetry.is_enabled
    monkeypatch.setenv("SMARTSIM_FLAG_TELEMETRY", "0")
    assert not Experiment("e", exp_path=str(tmp_path)).telemetry.is_enabled
    database = Orchestrator()
    assert not database.telemetry.is_enabled
    database.telemetry.enable()
    assert database.telemetry.is_enabled


def test_an_orchestrator_tells_its_threads():
    database = Orchestrator(threads_per_queue=1, inter_op_threads=2, intra_op_threads=3)
    assert (database.queue_threads, database.inter_threads, database.intra_threads) == (1, 2, 3)


def test_a_status_before_the_start_is_smartsims(experiment, settings):
    assert experiment.get_status(experiment.create_model("m", settings)) == [SmartSimStatus.STATUS_NEVER_STARTED]


def test_an_inactive_orchestrator_has_no_address():
    with pytest.raises(SmartSimError):
        Orchestrator().get_address()


def test_assets_have_smartsims_constructors(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"x")
    model = DBModel("m", "TORCH", model_file=str(tmp_path / "m.pt"))
    assert (model.is_file, str(model.file), model.devices) == (True, str(tmp_path / "m.pt"), ["CPU"])
    assert DBScript("s", "code").script == "code"


def test_generation_writes_smartsims_records(experiment, settings, tmp_path):
    (tmp_path / "in.atm").write_text("T = ;T;\nN = ;N;\n")
    ensemble = experiment.create_ensemble("e", {"T": [1], "N": [2, 3]}, run_settings=settings)
    plain = experiment.create_model("plain", settings)
    ensemble.attach_generator_files(to_configure=str(tmp_path / "in.atm"))
    database = experiment.create_database(port=6780)
    experiment.generate(ensemble, plain, database)
    assert Path(database.path).is_dir()
    assert not Path(plain.path, "smartsim_params.txt").exists()
    inner = tabulate([("T", 1), ("N", 3)], headers=["Name", "Value"])
    entry = tabulate([("e/e_1/in.atm", inner)], headers=["File name", "Parameters"])
    assert Path(ensemble["e_1"].path, "smartsim_params.txt").read_text() == f"Model name: e_1\n{entry}\n\n"
    whole = (tmp_path / "smartsim_params.txt").read_text()
    assert whole.startswith("Generation start date and time: ")
    assert whole.count("Model name: ") == 2
    with pytest.raises(FileExistsError):
        experiment.generate(ensemble)


def test_loggers_write_to_standard_output_and_to_files(tmp_path):
    program = f"""
from taskensemble.smartsim.log import get_logger, log_to_file
logger = get_logger(__name__)
log_to_file({str(tmp_path / "all.log")!r})
logger.info("seen")
logger.debug("hidden")
import logging
logging.getLogger("taskensemble").warning("also ours")
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert "SmartSim" in done.stdout
    assert "INFO seen" in done.stdout
    assert "hidden" not in done.stdout
    written = (tmp_path / "all.log").read_text()
    assert "seen" in written
    assert "hidden" in written
    assert "also ours" in written


@pytest.mark.parametrize(
    ("wanted", "level"),
    [("quiet", "WARNING"), ("info", "INFO"), ("debug", "DEBUG"), ("developer", "DEBUG"), ("odd", "INFO")],
)
def test_the_environment_sets_the_level(wanted, level, monkeypatch):
    monkeypatch.setenv("SMARTSIM_LOG_LEVEL", wanted)
    logger = log.get_logger("a.module.name")
    assert logging.getLevelName(logger.level) == level
    assert logger.name == ("a.module.name" if wanted == "developer" else "SmartSim")


def test_a_low_pass_filter_and_a_file_of_an_experiment(tmp_path):
    logger = logging.getLogger("test.smartsim.files")
    logger.setLevel("DEBUG")
    out = log.log_to_exp_file(str(tmp_path / "logs" / "out"), logger, "debug", log_filter=log.LowPassFilter("INFO"))
    error = log.log_to_exp_file(str(tmp_path / "logs" / "err"), logger, "WARN")
    logger.info("fine")
    logger.error("bad")
    for handler in (out, error):
        logger.removeHandler(handler)
        handler.close()
    assert "fine" in (tmp_path / "logs" / "out").read_text()
    assert "bad" not in (tmp_path / "logs" / "out").read_text()
    assert "bad" in (tmp_path / "logs" / "err").read_text()


def test_a_logger_writes_into_the_files_of_the_experiment_that_its_context_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SMARTSIM_LOG_LEVEL", "developer")
    logger = log.get_logger("test.smartsim.context", "INFO")
    assert isinstance(logger, log.ContextAwareLogger)
    token = log.ctx_exp_path.set(tmp_path)
    try:
        logger.info("fine")
        logger.error("bad")
        out, error = (path.read_text() for path in log.get_exp_log_paths())
    finally:
        log.ctx_exp_path.reset(token)
    logger.info("elsewhere")
    assert ("fine" in out, "bad" in out, str(tmp_path) in out) == (True, False, True)
    assert ("fine" in error, "bad" in error) == (False, True)
    assert "elsewhere" not in (tmp_path / ".smartsim" / "logs" / "smartsim.out").read_text()
    assert not logger.filters


def test_the_generator_makes_folders_where_it_was_told(settings, tmp_path):
    from taskensemble.smartsim._core.generation import Generator

    (tmp_path / "in.txt").write_text("@T@")
    ensemble = Ensemble("e", {"T": [1, 2]}, run_settings=settings)
    ensemble.attach_generator_files(to_configure=str(tmp_path / "in.txt"), tag="@")
    generator = Generator(str(tmp_path / "out"))
    generator.set_tag("@")
    generator.generate_experiment(ensemble)
    assert (tmp_path / "out" / "e" / "e_1" / "in.txt").read_text() == "2"
    assert Path(generator.log_file).exists()
    with pytest.raises(FileExistsError):
        Generator(str(tmp_path / "out")).generate_experiment(ensemble)
    Generator(str(tmp_path / "out"), overwrite=True).generate_experiment(ensemble)


def test_a_model_that_was_given_its_ensembles_path_goes_below_it(experiment, settings):
    ensemble = Ensemble("producer", {"a": [1]}, run_settings=settings)
    consumer = Model("consumer", {}, path=ensemble.path, run_settings=settings)
    ensemble.add_model(consumer)
    experiment.generate(ensemble)
    assert consumer.path == f"{experiment.exp_path}/producer/consumer"
    assert Path(consumer.path).is_dir()


def test_an_entity_made_without_the_experiment_is_generated_in_its_folder(experiment, settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=1)
    experiment.generate(ensemble)
    assert ensemble[0].path == f"{experiment.exp_path}/e/e_0"
    assert Path(ensemble[0].path).is_dir()


def test_attached_files_are_lists_that_a_driver_may_compare_and_change(tmp_path, settings, experiment):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(";x;")
    a, b, c = (str(tmp_path / name) for name in ("a", "b", "c"))
    files = EntityFiles(a, None, [b])
    assert (files.tagged, files.copy, files.link) == ([a], [], [b])
    assert "Symlink" in str(files)
    with pytest.raises(TypeError, match="paths are strings"):
        EntityFiles([1])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        EntityFiles(copy=[f"{a}/nowhere"])
    ensemble = experiment.create_ensemble("e", {"x": [1, 2]}, run_settings=settings)
    assert ensemble[0].files is None
    ensemble.attach_generator_files(to_configure=a)
    assert [member.files for member in ensemble] == [EntityFiles(a), EntityFiles(a)]
    ensemble[1].files.copy.append(c)
    experiment.generate(ensemble)
    assert [(Path(member.path) / "a").read_text() for member in ensemble] == ["1", "2"]
    assert [(Path(member.path) / "c").exists() for member in ensemble] == [False, True]


def test_a_colocated_database_with_a_socket_has_no_port(settings):
    model = Model("m", {}, settings)
    model.colocate_db_uds(unix_socket="/tmp/x.sock")
    assert model.run_settings.colocated_db_settings["port"] == 0
    # Drivers give both kinds the same arguments.
    model.colocate_db_uds(unix_socket="/tmp/x.sock", port=6790, maxmemory_policy="allkeys-lru")
    assert model.run_settings.colocated_db_settings["port"] == 0
    assert model.run_settings.colocated_db_settings["extra_db_args"] == {"maxmemory-policy": "allkeys-lru"}


def test_a_database_has_smartsims_attributes(settings):
    database = Orchestrator(port=6790)
    assert database.batch is False
    assert (list(database.db_models), list(database.db_scripts)) == ([], [])
    database.set_path(new_path="/x")
    assert database.entities[0].path == "/x"


def test_the_error_for_a_previews_format_is_smartsims(experiment):
    with pytest.raises(SSUnsupportedError, match="The only valid output format currently available is plain_text"):
        experiment.preview(output_format="hello")


def test_a_generator_refuses_expressions_for_tags(tmp_path):
    with pytest.raises(SSUnsupportedError, match=r"ModelWriter\(\)\.set_tag"):
        Generator(str(tmp_path)).set_tag(";", "(;.+;)")
