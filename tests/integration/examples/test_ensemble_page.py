"""Every code block of the manual's page on ensembles runs, and prints what the page says."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest


def test_parameters_and_replicas_become_members(drive: Callable[..., str]) -> None:
    printed = drive("ensemble/initialise.py").splitlines()
    assert printed == [
        "6 members: ['sweep_0', 'sweep_1', 'sweep_2', 'sweep_3', 'sweep_4', 'sweep_5']",
        "{'THERMO': '95', 'STEPS': '50'} {'THERMO': '95', 'STEPS': '100'}",
        "4 ['copies_0', 'copies_1', 'copies_2', 'copies_3']",
        "6 ['95', '95', '95', '105', '105', '105']",
    ]


def test_batch_settings_begin_an_ensemble_in_three_ways(drive: Callable[..., str]) -> None:
    printed = drive("ensemble/batch.py")
    assert printed.splitlines()[-1] == "[2, 3, 4]"
    assert "mixed" in printed


def test_each_strategy_makes_its_members(drive: Callable[..., str]) -> None:
    sizes = {line.split()[0]: int(line.split()[1]) for line in drive("ensemble/strategies.py").splitlines()}
    assert sizes == {"every": 4, "paired": 2, "some": 20, "filled": 8, "even": 8, "mine": 3, "table": 3, "array": 2}


def test_parameters_become_arguments(drive: Callable[..., str]) -> None:
    assert drive("ensemble/arguments.py").splitlines() == [
        "['run', '-H', '5', '--steps=50'] 4",
        "['run', '-H', '6', '--steps=100']",
    ]


def test_files_are_copied_linked_and_configured(drive: Callable[..., str]) -> None:
    printed = drive("ensemble/files.py")
    assert "simulate.py" in printed
    assert "mesh.dat" in printed
    assert "temperature = 105\nsteps = 50" in printed


def test_a_model_of_another_program_joins_an_ensemble(drive: Callable[..., str]) -> None:
    assert drive("ensemble/append.py").splitlines()[-1] == "['experts_0', 'experts_1', 'quick']"


def test_models_functions_and_scripts_run_in_the_database(drive: Callable[..., str]) -> None:
    pytest.importorskip("torch")
    printed = drive("ensemble/assets.py")
    expected = "{'average': [0.5], 'average_of_file': [0.5], 'shift': [0.0, 1.0, 2.0, 5.0], 'scale_of_file': "
    assert printed.count(expected) == 2


def test_members_that_write_the_same_names_are_kept_apart(drive: Callable[..., str]) -> None:
    assert drive("ensemble/collisions.py").splitlines()[-1] == "{'producer_0': 0.0, 'producer_1': 1.0}"


def test_a_database_beside_each_member_answers_on_a_socket(drive: Callable[..., str]) -> None:
    pytest.importorskip("torch")
    assert drive("ensemble/colocated.py").count("Completed {'average': 2.0, 'socket': True}") == 2


def test_a_member_tells_two_databases_apart(drive: Callable[..., str]) -> None:
    assert drive("ensemble/databases.py").splitlines()[-1] == "{'fields': True, 'models': False}"


def test_a_running_database_takes_limits_and_is_used_by_a_second_experiment(drive: Callable[..., str]) -> None:
    assert drive("ensemble/database_limits.py").splitlines() == ["[0.   0.25 0.5  0.75 1.  ]", "True True", "True"]


def test_a_torch_module_becomes_a_model_in_three_ways(drive: Callable[..., str]) -> None:
    pytest.importorskip("torch")
    errors = re.findall(r"(\w+) differs by (\S+) at most", drive("ensemble/own_models.py"))
    assert [name for name, _ in errors] == ["scripted", "traced", "exported"]
    assert all(float(error) < 1e-6 for _, error in errors)


def test_a_run_is_found_again_by_its_id(drive: Callable[..., str]) -> None:
    assert drive("ensemble/reconnect.py").splitlines()[-1] == "Completed ['Completed', 'Completed']"


def test_a_started_ensemble_has_results_a_status_and_a_summary(drive: Callable[..., str]) -> None:
    printed = drive("ensemble/start.py")
    assert "plate_0 Completed 0 95 4750.0" in printed
    assert "completed: 3" in printed
    assert "copies_2" in printed


def test_a_stopped_ensemble_is_cancelled_and_can_start_again(drive: Callable[..., str]) -> None:
    printed = drive("ensemble/stop.py").splitlines()
    assert printed[-2:] == ["{'Cancelled'}", "Cancelled"]


def test_retries_walltimes_failures_dependencies_and_resuming_do_what_the_page_says(drive: Callable[..., str]) -> None:
    printed = drive("ensemble/policies.py")
    assert "[('Completed', 2), ('Completed', 2)]" in printed
    assert printed.count("('Failed', 'walltime of 0.5 s is over')") == 2
    assert "'Cancelled': " in printed
    assert "1 failed\n1 completed after all" in printed
