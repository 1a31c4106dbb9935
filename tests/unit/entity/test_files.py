"""Attached files: what is accepted, what is refused, and the tables."""

import pytest

from taskensemble.entity import Ensemble, Model
from taskensemble.errors import InputError, InputTypeError


@pytest.fixture
def tree(tmp_path):
    for name in ("in.txt", "data/a.dat", "data/deep/b.dat", "other/in.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def test_a_bare_path_is_one_path_and_a_second_call_replaces_the_first(settings, tree, monkeypatch):
    monkeypatch.chdir(tree)
    model = Model("m", {}, settings)
    model.attach_generator_files(to_copy="in.txt", to_symlink=["data"], to_configure=tree / "other")
    assert model.files.copy == (str(tree / "in.txt"),)
    assert model.files.link == (str(tree / "data"),)
    assert model.files.tagged == (str(tree / "other"),)
    model.attach_generator_files(to_configure="in.txt", tag="@")
    assert model.files.copy == ()
    assert model.files.tag == "@"


@pytest.mark.parametrize("argument", ["to_copy", "to_symlink", "to_configure"])
@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ("nowhere.txt", FileNotFoundError, "nowhere.txt"),
        (["in.txt", 5], InputTypeError, "5"),
        (5, InputTypeError, "5"),
        ("/path/to/smartsim_params.txt", ValueError, "smartsim_params.txt"),
        (["taskensemble_params.txt"], ValueError, "taskensemble_params.txt"),
    ],
)
def test_a_path_that_cannot_be_attached_is_named_with_its_argument(
    settings, tree, monkeypatch, argument, given, error, told
):
    monkeypatch.chdir(tree)
    with pytest.raises(error, match=f"{argument}.*{told}"):
        Model("m", {}, settings).attach_generator_files(**{argument: given})


def test_a_folder_with_a_link_to_a_folder_cannot_be_configured(settings, tree):
    (tree / "data" / "circle").symlink_to(tree / "data")
    with pytest.raises(ValueError, match="circle"):
        Model("m", {}, settings).attach_generator_files(to_configure=str(tree / "data"))


@pytest.mark.parametrize("argument", ["to_copy", "to_symlink", "to_configure"])
def test_two_files_of_one_name_are_refused(settings, tree, argument):
    with pytest.raises(InputError, match=argument):
        Model("m", {}, settings).attach_generator_files(**{argument: [tree / "in.txt", tree / "other" / "in.txt"]})


@pytest.mark.parametrize("configured", ["other", "other/in.txt"])
def test_a_configured_file_cannot_be_a_link_too(settings, tree, configured):
    with pytest.raises(InputError, match=r"to_symlink and to_configure.*in\.txt"):
        Model("m", {}, settings).attach_generator_files(to_symlink=tree / "in.txt", to_configure=tree / configured)


@pytest.mark.parametrize("copied", ["other", "other/in.txt", "in.txt"])
def test_a_copied_file_cannot_be_a_link_too(settings, tree, copied):
    with pytest.raises(InputError, match=r"to_symlink and to_copy.*in\.txt"):
        Model("m", {}, settings).attach_generator_files(to_symlink=tree / "in.txt", to_copy=tree / copied)


@pytest.mark.parametrize("tag", ["", "a\nb", 5])
def test_a_tag_is_text_on_one_line(settings, tree, tag):
    with pytest.raises((InputError, InputTypeError), match="tag"):
        Model("m", {}, settings).attach_generator_files(to_configure=tree / "in.txt", tag=tag)


@pytest.mark.parametrize("make", ["model", "ensemble"])
def test_the_singular_name_and_its_keyword_are_accepted(settings, tree, make):
    entity = Model("m", {}, settings) if make == "model" else Ensemble("e", None, run_settings=settings, replicas=1)
    entity.attach_generator_file(to_config=str(tree / "in.txt"))
    model = entity if make == "model" else entity[0]
    assert model.files.tagged == (str(tree / "in.txt"),)
    entity.attach_generator_file(str(tree / "in.txt"), to_configure=None)
    with pytest.raises(InputError, match="to_config and to_configure"):
        entity.attach_generator_file(to_config="a", to_configure="b")


def test_an_empty_ensemble_says_that_files_would_be_lost(settings, tree):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=1)
    ensemble.entities = []
    with pytest.raises(InputError, match="no members"):
        ensemble.attach_generator_files(to_copy=tree / "in.txt")


def test_tables_say_what_is_attached(settings, tree, capsys):
    model = Model("m", {}, settings)
    assert model.attached_files_table == "No file attached to this model."
    model.attach_generator_files()
    assert model.attached_files_table == "No file attached to this entity."
    copied, linked = str(tree / "in.txt"), str(tree / "data")
    model.attach_generator_files(copied, linked, str(tree / "other"))
    model.print_attached_files()
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells == [["Strategy", "Files"], ["Copy", copied], ["Symlink", linked], ["Configure", str(tree / "other")]]
    assert lines[2].startswith("+====")


def test_an_ensembles_table_has_a_row_for_each_member(settings, tree):
    ensemble = Ensemble("e", None, run_settings=settings, replicas=2)
    ensemble.attach_generator_files(to_copy=tree / "in.txt")
    ensemble[1].attach_generator_files()
    table = ensemble.attached_files_table
    assert [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| e_")] == ["e_0", "e_1"]
    assert "| Model name" in table
    assert str(tree / "in.txt") in table
    assert "No file attached to this entity." in table
