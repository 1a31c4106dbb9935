"""Ensembles from tables: a row a member."""

import numpy as np
import pytest

from taskensemble.entity import Ensemble
from taskensemble.errors import InputError, InputTypeError

ROWS = [{"A": "1", "B": "x"}, {"A": "2", "B": "y"}]


def members(settings, samples, params=None, **keywords):
    ensemble = Ensemble("e", params, run_settings=settings, samples=samples, **keywords)
    return [model.params for model in ensemble]


def test_a_csv_file_names_its_columns(settings, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("A, B\n1, x\n\n2, y\n")
    assert members(settings, table) == ROWS
    assert members(settings, str(table), {"C": 5}) == [row | {"C": "5"} for row in ROWS]


def test_a_csv_file_without_a_header_is_named_by_params(settings, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("1,2\n3,4\n")
    assert members(settings, table, ["A", "B"]) == [{"A": "1", "B": "2"}, {"A": "3", "B": "4"}]
    with pytest.raises(InputError, match=r"header.*params"):
        members(settings, table)


def test_an_npy_file_is_named_by_params(settings, tmp_path):
    np.save(tmp_path / "t.npy", np.array([[1.5, 2], [3, 4]]))
    assert members(settings, tmp_path / "t.npy", ["A", "B"])[0] == {"A": "1.5", "B": "2.0"}
    with pytest.raises(InputError, match="params"):
        members(settings, tmp_path / "t.npy")


def test_arrays_lists_and_frames_are_tables(settings):
    structured = np.array([(1, "x"), (2, "y")], dtype=[("A", int), ("B", "U1")])
    assert members(settings, structured) == ROWS
    assert members(settings, ROWS) == ROWS
    assert members(settings, np.array([7, 8]), "A") == [{"A": "7"}, {"A": "8"}]
    assert members(settings, [[1, 2], [3, 4]], ["A", "B"])[1] == {"A": "3", "B": "4"}
    pandas = pytest.importorskip("pandas")
    assert members(settings, pandas.DataFrame(ROWS)) == ROWS


def test_rows_are_replicated_and_can_be_arguments(settings):
    ensemble = Ensemble("e", None, None, ["A"], run_settings=settings, samples=ROWS, replicas=2)
    assert [model.run_settings.exe_args[-1] for model in ensemble] == ["1", "1", "2", "2"]


@pytest.mark.parametrize(
    ("samples", "params", "error", "told"),
    [
        ("nowhere.csv", None, FileNotFoundError, "nowhere.csv"),
        (5, None, InputTypeError, "int"),
        ([], None, InputError, "names"),
        (np.zeros((0, 2)), ["A", "B"], InputError, "no rows"),
        (np.zeros((2, 2, 2)), ["A", "B"], InputError, "shape"),
        (np.array([[None, 1]], dtype=object), ["A", "B"], InputTypeError, "objects"),
        (np.zeros((2, 3)), ["A", "B"], InputError, "3 values for the 2 columns"),
        ([{"A": 1}, {"B": 2}], None, InputError, "row 1"),
        (ROWS, {"A": 3}, InputError, "'A'"),
        (np.zeros((2, 2)), ["A", "A"], InputError, "twice"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(settings, samples, params, error, told):
    with pytest.raises(error, match=told):
        members(settings, samples, params)


def test_a_file_of_another_kind_is_refused(settings, tmp_path):
    (tmp_path / "t.txt").write_text("A\n1\n")
    with pytest.raises(InputError, match=r"\.npy nor a \.csv"):
        members(settings, tmp_path / "t.txt")


def test_a_file_of_python_objects_is_refused_by_its_name(settings, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"samples: .*objects\.npy' has no table"):
        members(settings, tmp_path / "objects.npy", ["A"])


def test_n_models_means_nothing_beside_samples(settings):
    with pytest.raises(InputError, match="n_models"):
        members(settings, ROWS, n_models=1)
