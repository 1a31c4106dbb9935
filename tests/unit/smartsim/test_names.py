"""SmartSim's modules and names: a driver imports them as they are there."""

import importlib
import importlib.util
import subprocess
import sys

import pytest

from taskensemble import errors, smartsim
from taskensemble.smartsim import MODULES
from taskensemble.smartsim.error import errors as names
from taskensemble.smartsim.status import TERMINAL_STATUSES, SmartSimStatus

PUBLIC = {
    "": ["Experiment"],
    "database": ["Orchestrator"],
    "database.orchestrator": ["Orchestrator"],
    "entity": [
        "DBModel", "DBNode", "DBObject", "DBScript", "Ensemble", "EntityList", "EntitySequence", "Model", "SmartSimEntity",
        "TelemetryConfiguration",
    ],
    "entity.dbnode": ["DBNode"],
    "entity.dbobject": ["DBObject", "DBModel", "DBScript"],
    "entity.ensemble": ["Ensemble"],
    "entity.entity": ["SmartSimEntity", "TelemetryConfiguration"],
    "entity.entityList": ["EntityList", "EntitySequence"],
    "entity.files": ["EntityFiles"],
    "entity.model": ["Model"],
    "entity.strategies": ["create_all_permutations", "step_values", "random_permutations"],
    "error": [
        "AllocationError", "EntityExistsError", "LauncherError", "LauncherUnsupportedFeature", "ParameterWriterError",
        "ShellError", "SmartSimError", "SSConfigError", "SSDBFilesNotParseable", "SSDBIDConflictError", "SSInternalError",
        "SSReservedKeywordError", "SSUnsupportedError", "UserStrategyError",
    ],
    "error.errors": ["TelemetryError", "UnproxyableStepError", "SmartSimCLIActionCancelled", "PreviewFormatError"],
    "experiment": ["Experiment"],
    "_core": ["Manifest"],
    "_core.config": ["CONFIG", "get_config"],
    "_core.config.config": ["Config", "get_config"],
    "_core.control": ["Manifest"],
    "_core.control.manifest": ["Manifest"],
    "_core.control.previewrenderer": ["render", "Format", "Verbosity"],
    "_core.generation": ["Generator"],
    "_core.generation.modelwriter": ["ModelWriter"],
    "_core.utils": ["installed_redisai_backends", "expand_exe_path", "delete_elements"],
    "_core.utils.helpers": ["cat_arg_and_value", "is_valid_cmd", "create_short_id_str"],
    "_core.utils.network": ["find_free_port", "get_ip_from_host", "get_ip_from_interface"],
    "_core.utils.serialize": ["MANIFEST_FILENAME"],
    "log": [
        "get_logger", "log_to_file", "log_to_exp_file", "LowPassFilter", "HostnameFilter", "ContextAwareLogger", "ctx_exp_path",
        "get_exp_log_paths",
    ],
    "ml": ["DataDownloader", "DataInfo", "TrainingDataUploader", "form_name"],
    "ml.data": ["DataDownloader", "DataInfo", "TrainingDataUploader", "form_name"],
    "servertype": ["CLUSTERED", "STANDALONE"],
    "settings": [
        "AprunSettings", "BsubBatchSettings", "JsrunSettings", "MpirunSettings", "MpiexecSettings", "OrterunSettings",
        "QsubBatchSettings", "RunSettings", "SettingsBase", "SbatchSettings", "SgeQsubBatchSettings", "SrunSettings",
        "PalsMpiexecSettings", "DragonRunSettings", "Container", "Singularity",
    ],
    "settings.alpsSettings": ["AprunSettings"],
    "settings.base": ["RunSettings", "BatchSettings", "SettingsBase"],
    "settings.containers": ["Container", "Singularity"],
    "settings.lsfSettings": ["BsubBatchSettings", "JsrunSettings"],
    "settings.mpiSettings": ["MpirunSettings", "MpiexecSettings", "OrterunSettings"],
    "settings.palsSettings": ["PalsMpiexecSettings"],
    "settings.pbsSettings": ["QsubBatchSettings"],
    "settings.settings": ["create_batch_settings", "create_run_settings"],
    "settings.sgeSettings": ["SgeQsubBatchSettings"],
    "settings.slurmSettings": ["SbatchSettings", "SrunSettings"],
    "status": ["SmartSimStatus", "TERMINAL_STATUSES", "STATUS_COMPLETED"],
    "version": ["__version__"],
    "wlm": ["detect_launcher", "get_hosts", "get_queue", "get_tasks", "get_tasks_per_node"],
    "wlm.pbs": ["get_hosts", "get_queue", "get_tasks", "get_tasks_per_node"],
    "wlm.slurm": [
        "get_allocation", "release_allocation", "validate", "get_default_partition", "get_hosts", "get_queue", "get_tasks",
        "get_tasks_per_node",
    ],
}  # fmt: skip


@pytest.mark.parametrize("module", PUBLIC)
def test_a_module_has_smartsims_names(module):
    found = importlib.import_module(f"taskensemble.smartsim.{module}".rstrip("."))
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


def test_every_module_listed_can_be_imported():
    for module in MODULES:
        importlib.import_module(f"taskensemble.smartsim.{module}")


def test_installed_it_is_smartsim_for_every_import():
    program = """
import taskensemble.smartsim
taskensemble.smartsim.install()
taskensemble.smartsim.install()
import smartsim
from smartsim import *
from smartsim import Experiment
from smartsim.settings.slurmSettings import SrunSettings
from smartsim.entity.ensemble import Ensemble
import smartsim.settings.base
import taskensemble.smartsim.entity
assert smartsim is taskensemble.smartsim
assert smartsim.settings.base.RunSettings is taskensemble.settings.RunSettings
assert Ensemble is taskensemble.smartsim.entity.Ensemble
import sys
assert "torch" not in sys.modules and "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_another_smartsim_that_is_loaded_is_not_replaced():
    program = """
import sys, types
sys.modules["smartsim"] = types.ModuleType("smartsim")
import taskensemble.smartsim
from taskensemble.errors import TaskensembleError
try:
    taskensemble.smartsim.install()
except TaskensembleError as error:
    assert "before it" in str(error)
else:
    raise SystemExit("nothing was raised")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(("framework", "module"), [("torch", "ml.torch.data"), ("tensorflow", "ml.tf.utils")])
def test_a_frameworks_helpers_are_imported_on_demand(framework, module):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    package = module.rpartition(".")[0]
    program = f"""
import taskensemble.smartsim, sys
taskensemble.smartsim.install()
assert {framework!r} not in sys.modules
import smartsim.{module}
from smartsim.{package} import DynamicDataGenerator, StaticDataGenerator
for name in ("{package}", "{module}"):
    assert sys.modules["smartsim." + name] is sys.modules["taskensemble.smartsim." + name]
assert smartsim.{package}.StaticDataGenerator is StaticDataGenerator
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("EntityExistsError", ["SmartSimError"]),
        ("UserStrategyError", ["SmartSimError"]),
        ("ParameterWriterError", ["SmartSimError"]),
        ("SSReservedKeywordError", ["SmartSimError"]),
        ("SSDBIDConflictError", ["SmartSimError"]),
        ("SSDBFilesNotParseable", ["SmartSimError"]),
        ("PreviewFormatError", ["SSUnsupportedError"]),
        ("SSConfigError", ["SSInternalError"]),
        ("LauncherError", ["SSInternalError"]),
        ("LauncherUnsupportedFeature", ["LauncherError"]),
        ("AllocationError", ["LauncherError"]),
        ("ShellError", ["LauncherError"]),
        ("TelemetryError", ["SSInternalError"]),
    ],
)
def test_errors_are_below_the_same_bases(name, bases):
    assert all(issubclass(getattr(names, name), getattr(names, base)) for base in bases)
    assert issubclass(getattr(names, name), errors.TaskensembleError)


def test_statuses_have_smartsims_names_and_words():
    assert {status.name: status.value for status in SmartSimStatus} == {
        "STATUS_RUNNING": "Running", "STATUS_COMPLETED": "Completed", "STATUS_CANCELLED": "Cancelled", "STATUS_FAILED": "Failed",
        "STATUS_NEW": "New", "STATUS_PAUSED": "Paused", "STATUS_NEVER_STARTED": "NeverStarted", "STATUS_QUEUED": "Queued",
    }  # fmt: skip
    assert {
        SmartSimStatus.STATUS_CANCELLED,
        SmartSimStatus.STATUS_COMPLETED,
        SmartSimStatus.STATUS_FAILED,
    } == TERMINAL_STATUSES


def test_the_package_says_whose_names_it_has():
    assert smartsim.__version__ == "0.8.0"
