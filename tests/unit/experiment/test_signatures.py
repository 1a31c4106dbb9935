"""The surface of SmartSim drivers, row by row: names, order and defaults of arguments, in both packages."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import taskensemble
from taskensemble import entity, ml, settings, smartsim
from taskensemble.smartsim.database import Orchestrator
from taskensemble.smartsim.wlm import slurm

REQUIRED = "required"

EXPERIMENT: dict[str, dict[str, Any]] = {
    "__init__": {"name": REQUIRED, "exp_path": None, "launcher": "local"},
    "create_ensemble": {
        "name": REQUIRED, "params": None, "batch_settings": None, "run_settings": None, "replicas": None,
        "perm_strategy": "all_perm", "path": None, "params_as_args": None, "n_models": 0,
    },
    "create_model": {
        "name": REQUIRED, "run_settings": REQUIRED, "params": None, "path": None, "enable_key_prefixing": False,
        "batch_settings": None, "params_as_args": None,
    },
    "create_run_settings": {
        "exe": REQUIRED, "exe_args": None, "run_command": "auto", "run_args": None, "env_vars": None, "container": None,
    },
    "create_batch_settings": {"nodes": 1, "time": "", "queue": "", "account": "", "batch_args": None},
    "create_database": {
        "port": 6379, "path": None, "db_nodes": 1, "batch": False, "hosts": None, "run_command": "auto", "interface": "lo",
        "account": None, "time": None, "queue": None, "single_cmd": True, "db_identifier": "orchestrator",
    },
    "poll": {"interval": 10, "verbose": True, "kill_on_interrupt": True},
    "finished": {"entity": REQUIRED},
    "reconnect_orchestrator": {"checkpoint": REQUIRED},
}  # fmt: skip
KEYWORDS: dict[str, dict[str, Any]] = {
    "start": {"block": True, "summary": False, "kill_on_interrupt": True},
    "generate": {"tag": None, "overwrite": False, "verbose": False},
    "preview": {"verbosity_level": "info", "output_format": "plain_text", "output_filename": None},
}
ASSET = {"device": "CPU", "devices_per_node": 1, "first_device": 0}
COLOCATED = {"db_cpus": 1, "custom_pinning": None, "debug": False, "db_identifier": ""}
MODEL: dict[str, dict[str, Any]] = {
    "attach_generator_files": {"to_copy": None, "to_symlink": None, "to_configure": None},
    "add_ml_model": {
        "name": REQUIRED, "backend": REQUIRED, "model": None, "model_path": None, **ASSET, "batch_size": 0, "min_batch_size": 0,
        "min_batch_timeout": 0, "tag": "", "inputs": None, "outputs": None,
    },
    "add_script": {"name": REQUIRED, "script": None, "script_path": None, **ASSET},
    "add_function": {"name": REQUIRED, "function": None, **ASSET},
    "register_incoming_entity": {"incoming_entity": REQUIRED},
    "enable_key_prefixing": {}, "query_key_prefixing": {}, "print_attached_files": {},
}  # fmt: skip
MODEL_ALONE: dict[str, dict[str, Any]] = {
    "disable_key_prefixing": {}, "params_to_args": {},
    "colocate_db_tcp": {"port": 6379, "ifname": "lo", **COLOCATED},
    "colocate_db_uds": {"unix_socket": "/tmp/redis.socket", "socket_permissions": 755, **COLOCATED},
}  # fmt: skip
DATABASE: dict[str, dict[str, Any]] = {
    "set_db_conf": {"key": REQUIRED, "value": REQUIRED},
    "enable_checkpoints": {"frequency": REQUIRED},
    "set_max_memory": {"mem": REQUIRED},
    "set_eviction_strategy": {"strategy": REQUIRED},
    "set_max_clients": {"clients": 50_000},
    "set_max_message_size": {"size": 1_073_741_824},
    "set_cpus": {"num_cpus": REQUIRED}, "set_walltime": {"walltime": REQUIRED}, "set_hosts": {"host_list": REQUIRED},
    "set_batch_arg": {"arg": REQUIRED, "value": None}, "set_run_arg": {"arg": REQUIRED, "value": None},
    "get_address": {}, "is_active": {}, "reset_hosts": {}, "remove_stale_files": {},
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "set": {"arg": REQUIRED, "value": None, "condition": True},
    "set_nodes": {"nodes": REQUIRED}, "set_tasks": {"tasks": REQUIRED}, "set_tasks_per_node": {"tasks_per_node": REQUIRED},
    "set_task_map": {"task_mapping": REQUIRED}, "set_cpus_per_task": {"cpus_per_task": REQUIRED},
    "set_hostlist": {"host_list": REQUIRED}, "set_hostlist_from_file": {"file_path": REQUIRED},
    "set_excluded_hosts": {"host_list": REQUIRED}, "set_cpu_bindings": {"bindings": REQUIRED},
    "set_memory_per_node": {"memory_per_node": REQUIRED}, "set_verbose_launch": {"verbose": REQUIRED},
    "set_quiet_launch": {"quiet": REQUIRED}, "set_broadcast": {"dest_path": None},
    "set_node_feature": {"feature_list": REQUIRED}, "set_walltime": {"walltime": REQUIRED},
    "set_time": {"hours": 0, "minutes": 0, "seconds": 0}, "set_binding": {"binding": REQUIRED},
    "set_mpmd_preamble": {"preamble_lines": REQUIRED}, "make_mpmd": {"settings": REQUIRED},
    "add_exe_args": {"args": REQUIRED}, "update_env": {"env_vars": REQUIRED}, "format_run_args": {}, "format_env_vars": {},
}  # fmt: skip
BATCH: dict[str, dict[str, Any]] = {
    "set_nodes": {"num_nodes": REQUIRED}, "set_hostlist": {"host_list": REQUIRED}, "set_queue": {"queue": REQUIRED},
    "set_walltime": {"walltime": REQUIRED}, "set_account": {"account": REQUIRED}, "set_batch_command": {"command": REQUIRED},
    "add_preamble": {"lines": REQUIRED},
}  # fmt: skip


def rows() -> list[Any]:
    """(owner, method, arguments): every row for our class and for SmartSim's."""
    tables = [
        ((taskensemble.Experiment, smartsim.Experiment), EXPERIMENT),
        ((entity.Model, smartsim.entity.Model, entity.Ensemble, smartsim.entity.Ensemble), MODEL),
        ((entity.Model, smartsim.entity.Model), MODEL_ALONE),
        ((entity.Database, Orchestrator), DATABASE),
        ((settings.RunSettings,), SETTINGS),
        ((settings.BatchSettings,), BATCH),
    ]
    return [
        pytest.param(owner, method, arguments, id=f"{owner.__module__}.{owner.__name__}.{method}")
        for owners, table in tables
        for owner in owners
        for method, arguments in table.items()
    ]


def arguments_of(call: Any) -> dict[str, Any]:
    return {
        name: REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(call).parameters.items()
        if name != "self" and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    }


@pytest.mark.parametrize(("owner", "method", "expected"), rows())
def test_a_method_takes_what_the_surface_says_in_its_order(owner: type, method: str, expected: dict[str, Any]) -> None:
    found = arguments_of(getattr(owner, method))
    assert list(found.items())[: len(expected)] == list(expected.items())
    # What is ours beside it comes after, and need not be given.
    assert REQUIRED not in list(found.values())[len(expected) :]


@pytest.mark.parametrize("owner", [taskensemble.Experiment, smartsim.Experiment])
@pytest.mark.parametrize("method", KEYWORDS)
def test_a_method_of_several_entities_takes_the_rest_by_name(owner: type, method: str) -> None:
    parameters = inspect.signature(getattr(owner, method)).parameters
    assert any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters.values())
    for name, default in KEYWORDS[method].items():
        assert (parameters[name].kind, parameters[name].default) == (inspect.Parameter.KEYWORD_ONLY, default)


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        (
            smartsim.entity.Ensemble,
            {
                "name": REQUIRED, "params": None, "path": None, "params_as_args": None, "batch_settings": None,
                "run_settings": None, "perm_strat": "all_perm",
            },
        ),
        (
            smartsim.entity.Model,
            {
                "name": REQUIRED, "params": REQUIRED, "run_settings": REQUIRED, "path": None, "params_as_args": None,
                "batch_settings": None,
            },
        ),
    ],
)  # fmt: skip
def test_entities_are_made_from_smartsims_arguments(owner: type, expected: dict[str, Any]) -> None:
    assert arguments_of(owner) == expected


def test_an_orchestrator_is_made_from_smartsims_arguments() -> None:
    expected = {
        "port": 6379, "interface": "lo", "launcher": "local", "run_command": "auto", "db_nodes": 1, "batch": False, "hosts": None,
        "account": None, "time": None, "alloc": None, "single_cmd": False, "threads_per_queue": None, "inter_op_threads": None,
        "intra_op_threads": None, "db_identifier": "orchestrator",
    }  # fmt: skip
    told = inspect.signature(Orchestrator).parameters
    assert {name: told[name].default for name in told if name not in ("path", "kwargs")} == expected
    database = Orchestrator(**expected)
    assert (database.ports, database.interfaces, database.db_identifier) == ([6379], ["lo"], "orchestrator")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (slurm.get_allocation, {"nodes": 1, "time": None, "account": None, "options": None}),
        (slurm.release_allocation, {"alloc_id": REQUIRED}),
        (slurm.validate, {"nodes": 1, "ppn": 1, "partition": None}),
        (ml.DataInfo, {"list_name": REQUIRED, "sample_name": "samples", "target_name": "targets", "num_classes": None}),
    ],
)
def test_helpers_take_the_same_arguments(call: Any, expected: dict[str, Any]) -> None:
    assert list(arguments_of(call).items())[: len(expected)] == list(expected.items())


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            entity.Model,
            "colocated db_models db_scripts attached_files_table type set_path incoming_entities files params run_settings path",
        ),
        (
            entity.Ensemble,
            "models entities batch attached_files_table params replicas db_models db_scripts type set_path add_model",
        ),
        (entity.Database, "hosts num_shards db_identifier ports checkpoint_file"),
        (taskensemble.Experiment, "stop get_status summary launcher exp_path db_identifiers reconnect"),
        (settings.RunSettings, "exe exe_args run_command run_args env_vars container"),
        (settings.BatchSettings, "batch_args preamble"),
    ],
)
def test_an_object_has_the_attributes_of_the_surface(owner: type, names: str) -> None:
    exp = taskensemble.Experiment("names")
    run_settings = exp.create_run_settings("/bin/true")
    made: dict[type, Any] = {
        taskensemble.Experiment: exp,
        settings.RunSettings: run_settings,
        settings.BatchSettings: settings.SbatchSettings(),
        entity.Model: exp.create_model("m", run_settings),
        entity.Ensemble: exp.create_ensemble("e", run_settings=run_settings, replicas=1),
        entity.Database: exp.create_database(),
    }
    assert [name for name in names.split() if not hasattr(made[owner], name)] == []
