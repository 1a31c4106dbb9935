"""Inputs: what is checked on the driver's machine before anything starts."""

import sys

import pytest

from taskensemble.entity import Ensemble, Model
from taskensemble.errors import InputError, InputTypeError, ParameterWriterError
from taskensemble.inputs import read_inputs
from taskensemble.settings import RunSettings


@pytest.fixture
def tagged(tmp_path):
    path = tmp_path / "conf" / "in.txt"
    path.parent.mkdir()
    path.write_text("T = ;T;\nN = ;N;\n")
    return path


def ensemble(params, path, **keywords):
    made = Ensemble("e", params, run_settings=RunSettings(sys.executable), **keywords)
    made.attach_generator_files(to_configure=str(path))
    return made


@pytest.mark.parametrize("folder", [False, True])
def test_a_tag_that_is_no_parameter_is_found_before_the_start(tagged, folder):
    with pytest.raises(ParameterWriterError, match=r"in\.txt, line 2: the tag ;N;"):
        read_inputs([ensemble({"T": [1, 2]}, tagged.parent if folder else tagged)])


def test_members_with_other_parameters_are_checked_too(tagged):
    def strategy(names, values, n_models):
        return [{"T": 1, "N": 1}, {"T": 1}]

    with pytest.raises(ParameterWriterError, match=";N;"):
        read_inputs([ensemble({"T": 1}, tagged, perm_strat=strategy)])
    made = ensemble({"T": 1, "N": 1}, tagged)
    other = Model("m", {"T": 1}, RunSettings(sys.executable))
    other.files = made[0].files
    made.add_model(other)
    with pytest.raises(ParameterWriterError, match=";N;"):
        read_inputs([made])


def test_unknown_tags_and_other_tags_are_the_users_choice(tagged):
    made = ensemble({"T": [1, 2]}, tagged)
    read_inputs([made], allow_unknown_tags=True)
    read_inputs([made], tag="@")
    made.attach_generator_files(to_configure=str(tagged), allow_unknown_tags=True)
    read_inputs([made])


def test_a_file_that_is_gone_is_named(tagged):
    made = ensemble({"T": 1, "N": 1}, tagged)
    tagged.unlink()
    with pytest.raises(FileNotFoundError, match=r"in\.txt"):
        read_inputs([made])


@pytest.mark.parametrize(("tag", "error"), [(3, InputTypeError), ("", InputError), ("a\nb", InputError)])
def test_what_cannot_stand_around_a_name_is_no_tag_of_a_generation(tagged, tag, error):
    with pytest.raises(error, match="tag"):
        read_inputs([ensemble({"T": 1, "N": 1}, tagged)], tag=tag)
