"""Ensembles: the ways to begin one, its members, and what reaches every member."""

import copy
import sys
import time

import numpy as np
import pytest

from taskensemble.entity import Database, Ensemble, Model
from taskensemble.errors import EntityExistsError, InputError, InputTypeError, TaskensembleError, UnsupportedError
from taskensemble.settings import RunSettings, SbatchSettings

GRID = {"T": [95, 100, 105], "N": [50, 100]}


def batch():
    return SbatchSettings(nodes=2)


@pytest.mark.parametrize("with_batch", [False, True])
@pytest.mark.parametrize(
    ("keywords", "size"),
    [
        ({"params": GRID}, 6),
        ({"params": GRID, "replicas": 0}, 6),
        ({"params": GRID, "replicas": 2}, 12),
        ({"params": GRID, "perm_strat": "random", "replicas": 4, "seed": 1}, 4),
        ({"params": GRID, "perm_strat": "random", "replicas": 3, "n_models": 2, "seed": 1}, 6),
        ({"params": GRID, "perm_strat": "random", "n_models": 100}, 6),
        ({"params": None, "replicas": 4}, 4),
        ({"params": {}, "replicas": 1}, 1),
    ],
)
def test_run_settings_with_params_or_replicas_make_members(settings, with_batch, keywords, size):
    ensemble = Ensemble("e", run_settings=settings, batch_settings=batch() if with_batch else None, **keywords)
    assert len(ensemble) == size
    assert bool(ensemble.batch) is with_batch
    assert [model.name for model in ensemble] == [f"e_{i}" for i in range(size)]


@pytest.mark.parametrize("params", [None, {}])
def test_batch_settings_alone_begin_an_empty_ensemble(params):
    assert len(Ensemble("e", params, batch_settings=batch())) == 0


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"params": GRID}, "run_settings"),
        ({"params": GRID, "batch_settings": True, "replicas": 2}, "run_settings"),
        ({"params": None, "run_settings": True}, "'params' or 'replicas'"),
        ({"params": None, "run_settings": True, "replicas": 0}, "'params' or 'replicas'"),
        ({"params": None, "run_settings": True, "batch_settings": True}, "'params' or 'replicas'"),
        ({"params": None}, "batch settings or run settings"),
        ({"params": None, "replicas": 3}, "batch settings or run settings"),
        ({"params": None, "batch_settings": True, "replicas": 3}, "replicas=3"),
    ],
)
def test_every_other_combination_says_what_is_missing(settings, keywords, told):
    if keywords.get("run_settings"):
        keywords = keywords | {"run_settings": settings}
    if keywords.get("batch_settings"):
        keywords = keywords | {"batch_settings": batch()}
    with pytest.raises(TaskensembleError, match=told):
        Ensemble("e", **keywords)


@pytest.mark.parametrize(
    ("keywords", "error", "told"),
    [
        ({"replicas": -1}, ValueError, "replicas=-1"),
        ({"replicas": 1.5}, TypeError, "replicas=1.5"),
        ({"params": GRID, "n_models": -2}, ValueError, "n_models=-2"),
        ({"params": {"h": {"h": [5]}}}, TypeError, "'h'"),
        ({"params": {"h": []}}, ValueError, "'h'"),
        ({"params": {"": 1}}, ValueError, "empty name"),
        ({"params": 5}, TypeError, "params"),
        ({"params": GRID, "params_as_args": ["Z"]}, ValueError, "'Z'"),
        ({"params": GRID, "params_as_args": 7}, TypeError, "params_as_args"),
        ({"params": GRID, "params_as_args": {"T": [1]}}, ValueError, "'T'"),
        ({"params": GRID, "params_as_args": ["T", "T"]}, ValueError, "twice"),
        ({"params": "T"}, ValueError, "params_as_args"),
        ({"params": ["T", "N"], "params_as_args": {"T": [1]}}, ValueError, "'N'"),
        ({"replicas": 2, "params_as_args": ["T"]}, ValueError, "params_as_args"),
        ({"params": {}, "perm_strat": "nothing", "replicas": 1}, UnsupportedError, "'nothing'"),
        ({"params": GRID, "colour": 1}, TypeError, "'colour'"),
        ({"params": GRID, "seed": "x"}, TypeError, "seed='x' is a str"),
        ({"params": GRID, "perm_strat": "random", "seed": 1.5}, TypeError, "seed=1.5"),
        ({"params": GRID, "perm_strat": "random", "seed": -1}, ValueError, "seed=-1"),
        ({"params": GRID, "seed": 1}, ValueError, "seed=1 has no meaning with perm_strategy='all_perm'"),
        ({"params": GRID, "perm_strat": "step", "seed": 1}, ValueError, "perm_strategy='step'"),
        ({"replicas": 2, "seed": 1}, ValueError, "seed=1"),
        ({"replicas": 2, "n_models": 2}, ValueError, "n_models=2 has no meaning without params"),
        ({"samples": [{"A": 1}], "n_models": 2}, ValueError, "n_models=2 has no meaning with samples"),
        (
            {"samples": [{"A": 1}], "perm_strat": "random"},
            ValueError,
            "perm_strategy='random' has no meaning with samples",
        ),
        ({"samples": [{"A": 1}], "seed": 1}, ValueError, "seed=1"),
    ],
)
def test_wrong_input_is_refused_by_name(settings, keywords, error, told):
    with pytest.raises(error, match=told):
        Ensemble("e", **({"params": None} | keywords), run_settings=settings)


def test_an_ensemble_needs_a_name(settings):
    with pytest.raises(AttributeError, match="name"):
        Ensemble(None, GRID, run_settings=settings)
    with pytest.raises(InputTypeError, match="name"):
        Ensemble(5, GRID, run_settings=settings)
    with pytest.raises(InputError, match="'a/b'"):
        Ensemble("a/b", GRID, run_settings=settings)


def test_members_have_folders_copies_of_the_settings_and_their_names_before_their_keys(settings, tmp_path):
    ensemble = Ensemble("e", GRID, tmp_path / "here", run_settings=settings)
    first, second = ensemble.models[:2]
    assert first.path == str(tmp_path / "here" / "e_0")
    assert first.run_settings is not second.run_settings
    first.run_settings.add_exe_args("--more")
    assert settings.exe_args == second.run_settings.exe_args == ["simulate.py", "--fast"]
    assert ensemble.query_key_prefixing()
    ensemble.set_path(str(tmp_path / "there"))
    assert first.path == str(tmp_path / "there" / "e_0")
    with pytest.raises(TypeError, match="path"):
        ensemble.set_path(tmp_path)


def test_later_changes_to_the_callers_settings_do_not_reach_members(settings):
    ensemble = Ensemble("e", GRID, run_settings=settings)
    settings.add_exe_args("--late")
    assert ensemble["e_5"].run_settings.exe_args == ["simulate.py", "--fast"]


def test_parameters_as_arguments_follow_the_existing_ones_in_the_given_order(settings):
    params = {"H": [5, 6], "g_param": ["a", "b c"], "h": [1, 2]}
    ensemble = Ensemble("e", params, None, ["g_param", "H"], run_settings=settings, perm_strat="step")
    assert ensemble["e_0"].run_settings.exe_args == ["simulate.py", "--fast", "--g_param=a", "-H", "5"]
    assert ensemble["e_1"].run_settings.exe_args == ["simulate.py", "--fast", "--g_param=b c", "-H", "6"]
    assert ensemble["e_1"].params == {"H": "6", "g_param": "b c", "h": "2"}


@pytest.mark.parametrize("params", ["T", ["T"], None, {}])
def test_a_dict_of_arguments_gives_parameters_as_well(settings, params):
    ensemble = Ensemble("e", params, None, {"T": [1, 2]}, run_settings=settings)
    assert [model.params for model in ensemble] == [{"T": "1"}, {"T": "2"}]
    assert ensemble[1].run_settings.exe_args[-2:] == ["-T", "2"]


def test_a_single_name_is_an_argument(settings):
    assert Ensemble("e", GRID, None, "N", run_settings=settings)[0].run_settings.exe_args[-2:] == ["-N", "50"]


def test_numpy_values_are_parameters(settings):
    ensemble = Ensemble("e", {"T": np.linspace(0, 1, 3), "k": np.int64(4)}, run_settings=settings)
    assert [model.params for model in ensemble] == [{"T": t, "k": "4"} for t in ("0.0", "0.5", "1.0")]


def test_members_are_found_by_name_and_position(settings):
    ensemble = Ensemble("e", GRID, run_settings=settings)
    assert ensemble["e_3"] is ensemble[3] is ensemble.entities[3] is ensemble.models[3]
    assert ensemble[-1].name == "e_5"
    with pytest.raises(KeyError, match="e_6"):
        ensemble["e_6"]
    with pytest.raises(IndexError):
        ensemble[6]
    assert ensemble["e_1"] in ensemble
    assert "e_6" not in ensemble
    assert ensemble.models == list(ensemble)
    assert ensemble.models is not ensemble.models
    assert ensemble.type == "Ensemble"


def test_looking_at_a_member_does_not_change_the_others(settings):
    ensemble = Ensemble("e", GRID, run_settings=settings)
    ensemble[2].params["T"] = "0"
    assert [model.params["T"] for model in ensemble] == ["95", "95", "0", "100", "105", "105"]


def test_models_are_added_once_by_name(settings):
    ensemble = Ensemble("e", None, batch_settings=batch())
    model = Model("m", {}, settings)
    ensemble.add_model(model)
    assert model.path.endswith("/e/m")
    assert not ensemble.query_key_prefixing()
    with pytest.raises(EntityExistsError, match="m already exists in ensemble e"):
        ensemble.add_model(Model("m", {}, settings))
    with pytest.raises(TypeError, match="add_model"):
        ensemble.add_model("m")


def test_a_model_cannot_take_the_name_of_a_member_that_was_not_looked_at(settings):
    ensemble = Ensemble("e", GRID, run_settings=settings)
    with pytest.raises(EntityExistsError):
        ensemble.add_model(Model("e_4", {}, settings))


def test_an_added_model_keeps_a_folder_of_its_own(settings, tmp_path):
    ensemble = Ensemble("e", None, batch_settings=batch())
    model = Model("m", {}, settings, tmp_path)
    ensemble.add_model(model)
    assert model.path == str(tmp_path)


def test_members_can_be_replaced_as_a_list(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=3)
    del ensemble.entities[0]
    assert [model.name for model in ensemble] == ["e_1", "e_2"]
    ensemble.entities = []
    assert len(ensemble) == 0
    assert ensemble.attached_files_table == "The ensemble is empty, no files to show."


def test_incoming_entities_reach_all_members_or_none(settings):
    producer = Model("p", {}, settings)
    ensemble = Ensemble("e", None, run_settings=settings, replicas=3)
    ensemble[1].register_incoming_entity(producer)
    with pytest.raises(EntityExistsError, match="'p'"):
        ensemble.register_incoming_entity(producer)
    assert [len(model.incoming_entities) for model in ensemble] == [0, 1, 0]
    other = Ensemble("f", None, run_settings=settings, replicas=2)
    ensemble.register_incoming_entity(other)
    assert [[e.name for e in model.incoming_entities] for model in ensemble] == [["f"], ["p", "f"], ["f"]]


def test_key_prefixing_is_switched_for_all(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=2)
    ensemble.add_model(Model("m", {}, settings))
    assert not ensemble.query_key_prefixing()
    ensemble.enable_key_prefixing()
    assert ensemble.query_key_prefixing()
    ensemble.disable_key_prefixing()
    assert not any(model.query_key_prefixing() for model in ensemble)


def test_assets_reach_members_present_and_added_later(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=2)
    ensemble[0]
    ensemble.add_ml_model("cnn", "torch", b"bytes")
    ensemble.add_script("prep", "def f(x):\n    return x\n")
    ensemble.add_function("post", "def g(x):\n    return x\n")
    later = Model("m", {}, settings)
    ensemble.add_model(later)
    for model in ensemble:
        assert [asset.name for asset in model.db_models] == ["cnn"]
        assert [asset.name for asset in model.db_scripts] == ["prep", "post"]
    assert [asset.name for asset in ensemble.db_models] == ["cnn"]
    assert [asset.name for asset in ensemble.db_scripts] == ["prep", "post"]


def test_an_asset_of_a_taken_name_reaches_none(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=2)
    ensemble["e_1"].add_ml_model("cnn", "TORCH", b"mine")
    with pytest.raises(UnsupportedError, match='An ML Model with name "cnn" already exists'):
        ensemble.add_ml_model("cnn", "TORCH", b"other")
    assert not list(ensemble.db_models)
    assert not list(ensemble["e_0"].db_models)
    ensemble.add_script("s", "code")
    with pytest.raises(UnsupportedError, match='A Script with name "s" already exists'):
        ensemble.add_function("s", "code")
    stranger = Model("m", {}, settings)
    stranger.add_script("s", "own")
    with pytest.raises(UnsupportedError, match='"s"'):
        ensemble.add_model(stranger)
    assert "m" not in ensemble


def test_an_asset_of_one_member_stays_with_it(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=2)
    ensemble[0].add_script("own", "code")
    assert not list(ensemble[1].db_scripts)


def test_every_member_can_be_colocated_with_a_database(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=2)
    assert not ensemble.colocated
    ensemble.colocate_db_tcp(port=6780, db_cpus=2)
    assert ensemble.colocated
    assert ensemble[1].run_settings.colocated_db_settings["port"] == 6780


def test_dependencies_are_entities(settings):
    first = Ensemble("first", None, run_settings=settings, replicas=2)
    second = Ensemble("second", None, run_settings=settings, replicas=2, depends_on=first)
    third = Ensemble("third", None, run_settings=settings, replicas=2, depends_on=[first, second])
    assert second.depends_on == [first]
    assert third.depends_on == [first, second]
    with pytest.raises(InputTypeError, match="depends_on"):
        Ensemble("x", None, run_settings=settings, replicas=1, depends_on="first")
    with pytest.raises(InputError, match="twice"):
        Ensemble("x", None, run_settings=settings, replicas=1, depends_on=[first, first])


def test_policies_and_resources_are_keywords(settings):
    ensemble = Ensemble("e", GRID, run_settings=settings, retries=2, on_failure=3, enough=4, resources={"cpus": 2})
    assert (ensemble.policy.retries, ensemble.policy.on_failure, ensemble.policy.enough) == (2, "stop:3", 4)
    assert ensemble[0].resources.cpus == 2


def test_a_database_is_no_model(settings):
    with pytest.raises(TypeError):
        Ensemble("e", None, batch_settings=batch()).add_model(Database())


def test_members_are_found_by_name_after_others_were_taken_out_or_renamed(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=5)
    del ensemble.entities[1]
    assert ensemble["e_4"].name == "e_4"
    ensemble[0].name = "first"
    assert ensemble["first"] is ensemble[0]
    for absent in ("e_0", "e_1", "e_04", "e_-1", "e_", "f_2", ""):
        assert absent not in ensemble


def test_members_of_a_large_ensemble_are_found_by_name_at_once():
    ensemble = Ensemble("e", {"a": list(range(100_000))}, run_settings=RunSettings(sys.executable))
    begun = time.monotonic()
    assert all(ensemble[f"e_{number}"].params["a"] == str(number) for number in range(0, 100_000, 50))
    assert time.monotonic() - begun < 3


def test_a_large_ensemble_costs_little_until_its_members_are_looked_at():
    settings = RunSettings(sys.executable)
    begun = time.monotonic()
    ensemble = Ensemble("e", {"a": list(range(1000)), "b": list(range(1000))}, run_settings=settings)
    assert len(ensemble) == 1_000_000
    assert ensemble[999_999].params == {"a": "999", "b": "999"}
    assert time.monotonic() - begun < 2


def test_more_members_than_a_folder_should_have_are_spread_over_folders(settings):
    ensemble = Ensemble("e", {"a": list(range(1001))}, "/x", run_settings=settings)
    assert ensemble[7].path == "/x/0/e_7"
    assert ensemble[1000].path == "/x/1/e_1000"
    assert Ensemble("e", {"a": list(range(1000))}, "/x", run_settings=settings)[999].path == "/x/e_999"


def test_an_ensemble_is_itself_and_nothing_else(settings):
    one, two = (Ensemble("e", None, run_settings=settings, replicas=1) for _ in range(2))
    assert one != two
    assert len({one, two}) == 2
    assert copy.copy(one) != one


def test_members_are_taken_by_a_slice(settings):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=4)
    assert [member.name for member in ensemble[1:3]] == ["e_1", "e_2"]
    assert ensemble[1:3][0] is ensemble[1]
