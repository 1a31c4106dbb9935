"""The parts of SmartSim's inside that scripts reach for."""

import json
import signal
import socket
import sys
from pathlib import Path

import pytest

from taskensemble.smartsim import Experiment
from taskensemble.smartsim._core.config import CONFIG, get_config
from taskensemble.smartsim._core.control.controller import Controller
from taskensemble.smartsim._core.control.manifest import Manifest
from taskensemble.smartsim._core.control.previewrenderer import Format, Verbosity, render
from taskensemble.smartsim._core.generation.modelwriter import ModelWriter
from taskensemble.smartsim._core.launcher.dragon.dragonConnector import DragonConnector
from taskensemble.smartsim._core.launcher.dragon.dragonLauncher import DragonLauncher
from taskensemble.smartsim._core.utils import delete_elements, expand_exe_path, installed_redisai_backends
from taskensemble.smartsim._core.utils.helpers import (
    SignalInterceptionStack,
    cat_arg_and_value,
    create_short_id_str,
    is_valid_cmd,
)
from taskensemble.smartsim._core.utils.network import find_free_port, get_ip_from_host, get_ip_from_interface
from taskensemble.smartsim._core.utils.serialize import MANIFEST_FILENAME
from taskensemble.smartsim._core.utils.telemetry.telemetry import JobEntity
from taskensemble.smartsim.database import Orchestrator
from taskensemble.smartsim.entity.dbnode import LaunchedShardData
from taskensemble.smartsim.error import (
    ParameterWriterError,
    PreviewFormatError,
    SmartSimError,
    SSConfigError,
    SSDBFilesNotParseable,
    SSUnsupportedError,
)
from taskensemble.smartsim.settings import JsrunSettings, RunSettings, base


@pytest.fixture
def experiment(tmp_path):
    return Experiment("exp", exp_path=str(tmp_path))


@pytest.fixture
def settings():
    return RunSettings(sys.executable)


def test_the_environment_sets_the_configuration(monkeypatch, tmp_path):
    for name in ("LOG_LEVEL", "JM_INTERVAL", "TEST_PORT", "TEST_LAUNCHER", "TEST_INTERFACE", "FLAG_TELEMETRY"):
        monkeypatch.delenv(f"SMARTSIM_{name}", raising=False)
    assert get_config() is CONFIG
    assert (CONFIG.log_level, CONFIG.jm_interval, CONFIG.telemetry_enabled) == ("info", 10, True)
    assert (CONFIG.test_launcher, CONFIG.test_interface, CONFIG.test_ports[0]) == ("local", ["lo"], 6780)
    monkeypatch.setenv("SMARTSIM_FLAG_TELEMETRY", "0")
    monkeypatch.setenv("SMARTSIM_JM_INTERVAL", "3")
    monkeypatch.setenv("SMARTSIM_TEST_BATCH_RESOURCES", "[1]")
    assert (CONFIG.jm_interval, CONFIG.telemetry_enabled) == (3, False)
    with pytest.raises(TypeError, match="SMARTSIM_TEST_BATCH_RESOURCES was not interpreted as a dictionary"):
        _ = CONFIG.test_batch_resources
    assert Path(CONFIG.redisai).is_file()
    assert Path(CONFIG.database_exe).is_file()
    monkeypatch.setenv("REDIS_PATH", "not/a/path")
    with pytest.raises(SSConfigError, match="REDIS_PATH"):
        _ = CONFIG.database_exe
    monkeypatch.setenv("SMARTSIM_DEP_INSTALL_PATH", str(tmp_path))
    with pytest.raises(SSConfigError, match="RedisAI dependency not found"):
        _ = CONFIG.redisai
    monkeypatch.setenv("RAI_PATH", __file__)
    assert CONFIG.redisai == str(Path(__file__).resolve())


def test_a_manifest_sorts_what_a_start_is_given(experiment, settings):
    model, ensemble = (
        experiment.create_model("m", settings),
        experiment.create_ensemble("e", run_settings=settings, replicas=2),
    )
    database = Orchestrator(port=6790)
    manifest = Manifest(model, ensemble, database)
    assert (manifest.models, manifest.ensembles, manifest.dbs) == ([model], [ensemble], [database])
    assert manifest.all_entity_lists == [ensemble, database]
    assert (manifest.has_deployable, Manifest().has_deployable, manifest.has_db_objects) == (True, False, False)
    ensemble[1].add_script("s", script="def f(x):\n    return x")
    assert manifest.has_db_objects
    for title in (
        "=== Ensembles ===\ne\nMembers: 2\nBatch Launch: None\n",
        "=== Models ===\nm\n",
        "=== Database ===\nShards: 1\n",
    ):
        assert title in str(manifest)
    with pytest.raises(TypeError):
        Manifest([1, 2, 3])
    with pytest.raises(SmartSimError, match="same name"):
        Manifest(model, experiment.create_model("m", settings))
    ensemble.entities = []
    with pytest.raises(ValueError, match="Nothing to launch"):
        Manifest(ensemble)


def test_a_preview_is_rendered_of_a_manifest(experiment, settings, tmp_path):
    model = experiment.create_model("m", settings)
    text = render(
        experiment, Manifest(model), Verbosity.DEBUG, Format.PLAINTEXT, output_filename=str(tmp_path / "p.txt")
    )
    assert "= Model Name: m =" in text
    assert (tmp_path / "p.txt").read_text() == text + "\n"
    with pytest.raises(PreviewFormatError):
        render(experiment, output_format="hello")


def test_a_model_writer_writes_parameters_into_tagged_files(tmp_path):
    easy, other = tmp_path / "easy", tmp_path / "other"
    easy.write_text("T = ;T; and ;N;\nrun 5; end;\n")
    other.write_text("'@1 0 0@' @N@ \n")
    writer = ModelWriter()
    assert writer.configure_tagged_model_files([str(easy)], {"T": 1.5, "N": "x"}) == {str(easy): {"T": "1.5", "N": "x"}}
    assert easy.read_text().startswith("T = 1.5 and x\n")
    writer.set_tag("@")
    writer.configure_tagged_model_files([str(other)], {"1 0 0": "3 0 0"})
    assert other.read_text() == "'3 0 0' N \n"
    writer.set_tag(writer.tag, "(<.+>)")
    assert writer.regex == "(<.+>)"
    writer = ModelWriter()
    easy.write_text("a ;T;\n")
    with pytest.raises(ParameterWriterError, match=r"Unused tag T on line\(s\): \[1\]"):
        writer.configure_tagged_model_files([str(easy)], {}, make_missing_tags_fatal=True)
    assert easy.read_text() == "a ;T;\n"
    with pytest.raises(ParameterWriterError, match="Failed to read configuration file"):
        writer.configure_tagged_model_files("[not/a/path]", {"5": 10})


def test_small_functions_do_what_their_names_say(tmp_path):
    assert installed_redisai_backends() <= {"torch", "tensorflow", "onnxruntime"}
    assert expand_exe_path(sys.executable) == sys.executable
    (tmp_path / "plain").touch()
    with pytest.raises(TypeError, match="is not an executable"):
        expand_exe_path(str(tmp_path / "plain"))
    with pytest.raises(FileNotFoundError):
        expand_exe_path("no-such-program-anywhere")
    assert (is_valid_cmd("sh"), is_valid_cmd(None), is_valid_cmd("no-such-program-anywhere")) == (True, False, False)
    assert [cat_arg_and_value(name, "V") for name in ("--a", "-aa", "x", "xx")] == ["--a=V", "-aa V", "-x V", "--xx=V"]
    assert len(create_short_id_str()) == 7
    left = {"a": 1, "b": 2}
    delete_elements(left, ["a", "c"])
    assert left == {"b": 2}
    assert (get_ip_from_host("localhost"), get_ip_from_interface("lo")) == ("127.0.0.1", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        assert find_free_port(taken.getsockname()[1]) > taken.getsockname()[1]


def test_starting_nothing_leaves_the_manifest_that_dashboards_read(experiment):
    experiment.start()
    path = Path(experiment.exp_path, CONFIG.telemetry_subdir, MANIFEST_FILENAME)
    assert json.loads(path.read_text())["experiment"] == {
        "name": "exp",
        "path": experiment.exp_path,
        "launcher": "local",
    }


def test_an_orchestrator_tells_how_its_server_loads_the_module():
    told = Orchestrator(threads_per_queue=1, inter_op_threads=2)._rai_module
    assert told == ("--loadmodule", CONFIG.redisai, "THREADS_PER_QUEUE", "1", "INTER_OP_PARALLELISM", "2")


def test_names_that_smartsims_test_suite_imports_first_are_there(monkeypatch):
    for refused in (DragonConnector, DragonLauncher):
        with pytest.raises(SSUnsupportedError, match="workers take the place"):
            refused()
    monkeypatch.delenv("SMARTSIM_DRAGON_SERVER_PATH", raising=False)
    assert CONFIG.dragon_server_path is None
    monkeypatch.setenv("SMARTSIM_DRAGON_SERVER_PATH", "/x")
    assert CONFIG.dragon_server_path == "/x"
    entity = JobEntity()
    assert (entity.name, entity.telemetry_on, entity.is_db, entity.is_managed) == ("", False, False, False)
    entity.type, entity.step_id = "dbnode", "12.0"
    assert entity.is_db
    assert entity.is_managed


def test_a_controller_tells_states_and_reads_checkpoints_of_its_experiment(experiment, settings, tmp_path):
    control = experiment._control
    model = experiment.create_model("m", settings)
    ensemble = experiment.create_ensemble("e", run_settings=settings, replicas=2)
    assert control.get_entity_status(model) == "NeverStarted"
    assert control.get_entity_list_status(ensemble) == ["NeverStarted"] * 2
    for call, wrong in ((control.get_entity_status, ensemble), (control.get_entity_list_status, model)):
        with pytest.raises(TypeError, match="Argument was of type"):
            call(wrong)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        control.reload_saved_db(str(tmp_path / "nowhere"))
    with pytest.raises(SSUnsupportedError, match="of no experiment"):
        Controller("local").get_entity_status(model)


def test_functions_are_called_when_a_signal_comes_before_the_handler_that_was_there():
    called = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: called.append("own"))
    try:
        stack = SignalInterceptionStack.get(signal.SIGUSR2)
        assert SignalInterceptionStack.get(signal.SIGUSR2) is stack
        first = lambda number, frame: called.append("first")  # noqa: E731
        assert stack.push_unique(first)
        assert not stack.push_unique(first)
        stack.push(lambda number, frame: called.append("second"))
        assert len(stack) == 2
        assert first in stack
        signal.raise_signal(signal.SIGUSR2)
        assert called == ["second", "first", "own"]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_settings_are_made_where_their_programs_are_not_with_a_search_of_the_scripts_own(monkeypatch):
    with pytest.raises(FileNotFoundError):
        JsrunSettings("no-such-program")
    monkeypatch.setattr(base, "expand_exe_path", lambda exe: f"/there/{exe}")
    assert JsrunSettings("no-such-program").exe == ["/there/no-such-program"]
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        JsrunSettings("no-such-program")


def test_a_databases_servers_tell_where_they_run():
    node = Orchestrator(port=6790, db_identifier="d").entities[0]
    assert node.type == "DBNode"
    with pytest.raises(SSDBFilesNotParseable, match="d_0"):
        node.get_launched_shard_info()
    node.set_hosts(["n1"])
    assert node.get_launched_shard_info() == [LaunchedShardData("d_0", "n1", 6790, False)]
    assert LaunchedShardData("d_0", "n1", 6790, True).cluster_conf_file == "nodes-d_0-6790.conf"
