"""Members' folders: what is put there, in which order, and what happens to what is there already."""

import os
from pathlib import Path

import pytest

from taskensemble import Experiment
from taskensemble.engine.records import (
    CommandRecord,
    EntityRecord,
    FilesRecord,
    MemberRecord,
    RunRecord,
    TemplateRecord,
)
from taskensemble.errors import InputError, ParameterWriterError
from taskensemble.generation import generate_all, generate_member, is_passed_on, keep_outputs, member_folder
from taskensemble.generation.folders import linked_outputs


class Case:
    """A run of one entity, with the files that a test asks for."""

    def __init__(
        self, path, *, size=1, kind="Ensemble", run_id="r1", params=None, generated=False, generate=True, **files
    ):
        self.template = TemplateRecord(command=CommandRecord(head=("true",)), files=FilesRecord(**files))
        name = "e" if kind == "Ensemble" else "m"
        self.entity = EntityRecord(
            index=0, name=name, kind=kind, path=str(path / "exp" / name), first=0, size=size, generated=generated
        )
        self.run = RunRecord(
            run_id=run_id, experiment="exp", path=str(path / "exp"), created=0.0, entities=(self.entity,),
            templates=(self.template,), generate=generate,
        )  # fmt: skip
        self.members = [
            MemberRecord(
                index=i,
                entity=0,
                template=0,
                name=f"e_{i}" if kind == "Ensemble" else "m",
                params=params or {"T": str(i)},
            )
            for i in range(size)
        ]

    def make(self, number=0, overwrite=False):
        return generate_member(self.run, self.entity, self.template, self.members[number], overwrite)

    def make_all(self, overwrite=False):
        generate_all(self.run, self.members, overwrite)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "taskensemble_params.txt"
    }


@pytest.fixture
def tree(tmp_path):
    files = {
        "in.txt": "T = ;T;\n",
        "run.sh": "echo",
        "data/a": "A",
        "data/sub/b": "B",
        "conf/x": "x;T;",
        "conf/sub/y": ";T;y",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "run.sh").chmod(0o755)
    return tmp_path


def test_files_are_copied_linked_and_configured(tree):
    case = Case(
        tree, copy=(str(tree / "run.sh"), str(tree / "data")), symlink=(str(tree / "data"),),
        configure=(str(tree / "in.txt"), str(tree / "conf")), params={"T": "95"},
    )  # fmt: skip
    folder = case.make()
    assert folder == tree / "exp" / "e" / "e_0"
    made = {"run.sh": "echo", "a": "A", "sub/b": "B", "in.txt": "T = 95\n", "x": "x95", "sub/y": "95y"}
    assert {name: text for name, text in contents(folder).items() if not name.startswith("data/")} == made
    assert (folder / "data" / "sub" / "b").read_text() == "B"
    assert os.access(folder / "run.sh", os.X_OK)
    assert os.readlink(folder / "data") == str(tree / "data")


def test_a_record_tells_the_parameters_of_each_member_and_of_all(tree):
    case = Case(tree, size=2, configure=(str(tree / "in.txt"),))
    case.make_all()
    record = (tree / "exp" / "e" / "e_1" / "taskensemble_params.txt").read_text()
    assert record == "# Model name: e_1\n# Run: r1\n# Configured: in.txt\nT = 1\n"
    assert (tree / "exp" / "taskensemble_params.txt").read_text() == (
        "# Run: r1\n\n# Model name: e_0\nT = 0\n\n# Model name: e_1\nT = 1\n"
    )


def test_a_models_folder_is_its_own(tree):
    case = Case(tree, kind="Model", configure=(str(tree / "in.txt"),))
    assert case.make() == tree / "exp" / "m"
    own = MemberRecord(index=0, entity=0, template=0, name="m", path="/elsewhere")
    assert str(member_folder(case.entity, own)) == "/elsewhere"


def test_an_existing_folder_is_refused_before_any_is_made(tree):
    case = Case(tree, size=3, configure=(str(tree / "in.txt"),))
    (tree / "exp" / "e" / "e_2").mkdir(parents=True)
    with pytest.raises(FileExistsError, match=r"e_2 already exists.*overwrite"):
        case.make_all()
    assert not (tree / "exp" / "e" / "e_0").exists()


def test_overwriting_replaces_folders_with_nested_files_and_removes_those_of_a_larger_ensemble(tree):
    Case(tree, size=4, configure=(str(tree / "conf"),)).make_all()
    stranger = tree / "exp" / "e" / "e_notes"
    stranger.mkdir()
    (tree / "exp" / "e" / "e_0" / "old.out").write_text("old")
    case = Case(tree, size=2, configure=(str(tree / "conf"),), run_id="r2")
    case.make_all(overwrite=True)
    case.make_all(overwrite=True)
    assert sorted(path.name for path in (tree / "exp" / "e").iterdir()) == ["e_0", "e_1", "e_notes"]
    assert contents(tree / "exp" / "e" / "e_0") == {"x": "x0", "sub/y": "0y"}


@pytest.mark.parametrize("run_id", ["generate", "r1"])
def test_a_model_is_generated_again_whatever_the_name_of_the_run(tree, run_id):
    case = Case(tree, kind="Model", configure=(str(tree / "in.txt"),), run_id=run_id, params={"T": "1"})
    case.make_all()
    Case(tree, kind="Model", configure=(str(tree / "in.txt"),), run_id=run_id, params={"T": "2"}).make_all(
        overwrite=True
    )
    assert (tree / "exp" / "m" / "in.txt").read_text() == "T = 2\n"


def test_a_member_that_is_run_again_keeps_what_it_wrote(tree):
    case = Case(tree, configure=(str(tree / "in.txt"),))
    folder = case.make()
    (folder / "checkpoint").write_text("half")
    (folder / "in.txt").write_text("changed by the program")
    case.make(overwrite=True)
    assert contents(folder) == {"checkpoint": "half", "in.txt": "changed by the program"}


def test_an_attempt_that_was_cut_off_while_files_were_made_makes_them_again(tree):
    case = Case(tree, configure=(str(tree / "in.txt"),), symlink=(str(tree / "data"),))
    folder = case.make()
    (folder / "taskensemble_params.txt").unlink()
    (folder / "in.txt").write_text("half")
    case.make()
    assert (folder / "in.txt").read_text() == "T = 0\n"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_an_earlier_run_gets_its_files_anew(tree, overwrite):
    folder = Case(tree, configure=(str(tree / "in.txt"),)).make()
    (folder / "result").write_text("old")
    Case(tree, configure=(str(tree / "in.txt"),), run_id="r2", params={"T": "7"}).make(overwrite=overwrite)
    assert (folder / "in.txt").read_text() == "T = 7\n"
    assert (folder / "result").exists() is not overwrite


@pytest.mark.parametrize("keywords", [{"generated": True}, {"generate": False}])
def test_folders_that_were_made_ahead_are_left_as_they_are(tree, keywords):
    folder = Case(tree, configure=(str(tree / "in.txt"),), run_id="generate").make()
    (folder / "in.txt").write_text("edited by the user")
    Case(tree, configure=(str(tree / "in.txt"),), **keywords).make(overwrite=True)
    assert (folder / "in.txt").read_text() == "edited by the user"


def test_a_link_does_not_replace_a_file(tree):
    case = Case(tree, symlink=(str(tree / "in.txt"),))
    (tree / "exp" / "e" / "e_0").mkdir(parents=True)
    (tree / "exp" / "e" / "e_0" / "in.txt").write_text("there")
    with pytest.raises(FileExistsError, match="to_symlink"):
        case.make()


def test_a_configured_file_is_never_written_through_a_link(tree):
    folder = tree / "exp" / "e" / "e_0"
    folder.mkdir(parents=True)
    (folder / "in.txt").symlink_to(tree / "in.txt")
    Case(tree, configure=(str(tree / "in.txt"),)).make()
    assert (tree / "in.txt").read_text() == "T = ;T;\n"
    assert (folder / "in.txt").read_text() == "T = 0\n"


@pytest.mark.parametrize("files", ["copy", "configure"])
def test_what_an_earlier_run_linked_is_not_written_through(tree, files):
    """The next run copies what this one linked: the user's own file and folder stay as they are."""
    (tree / "mesh").mkdir()
    (tree / "mesh" / "a.txt").write_text("precious")
    Case(tree, symlink=(str(tree / "in.txt"), str(tree / "mesh"))).make()
    given = tree / "given"
    (given / "mesh").mkdir(parents=True)
    (given / "in.txt").write_text("new")
    (given / "mesh" / "a.txt").write_text("new")
    folder = Case(tree, run_id="r2", **{files: (str(given),)}).make()
    assert [(folder / name).read_text() for name in ("in.txt", "mesh/a.txt")] == ["new", "new"]
    assert (tree / "mesh" / "a.txt").read_text() == "precious"
    assert (tree / "in.txt").read_text() == "T = ;T;\n"


@pytest.mark.parametrize("left", ["pipe", "folder", "link"])
def test_whatever_a_program_has_left_in_the_place_of_its_outputs_is_put_aside(tree, left):
    folder = Case(tree).make()
    for name in ("e_0.out", "in.txt"):
        if left == "pipe":
            os.mkfifo(folder / name)
        elif left == "folder" and name == "e_0.out":
            (folder / name).mkdir()
        elif left == "link":
            (folder / name).symlink_to("/dev/zero")
    keep_outputs(folder, "e_0")
    assert os.path.lexists(folder / "e_0.out.1")
    assert not os.path.lexists(folder / "e_0.out")
    Case(tree, configure=(str(tree / "in.txt"),), run_id="r2").make()
    assert (folder / "in.txt").read_text() == "T = 0\n"


def test_links_that_the_driver_has_made_for_a_runs_outputs_stay_until_they_are_written(tree):
    case = Case(tree)
    folder = case.make()
    target = Path(linked_outputs(case.run), "e_0.out")
    target.parent.mkdir(parents=True)
    (folder / "e_0.out").symlink_to(target)
    keep_outputs(folder, "e_0", run=case.run)
    assert (folder / "e_0.out").is_symlink()
    target.touch()
    keep_outputs(folder, "e_0", run=case.run)
    assert not os.path.lexists(folder / "e_0.out")
    (folder / "e_0.out").symlink_to(tree / "elsewhere")
    keep_outputs(folder, "e_0", run=case.run)
    assert not os.path.lexists(folder / "e_0.out")


def test_bytes_that_are_no_text_survive(tree):
    (tree / "in.txt").write_bytes(b"\xff\xfe ;T;\r\n\xe9")
    folder = Case(tree, configure=(str(tree / "in.txt"),)).make()
    assert (folder / "in.txt").read_bytes() == b"\xff\xfe 0\r\n\xe9"


@pytest.mark.parametrize("files", [{"copy": "gone"}, {"symlink": "gone"}])
def test_a_file_that_is_no_longer_there_is_named(tree, files):
    case = Case(tree, **{name: (str(tree / value),) for name, value in files.items()})
    with pytest.raises(FileNotFoundError, match="gone"):
        case.make()


def test_a_tagged_file_that_is_no_longer_there_is_named(tree):
    with pytest.raises(ParameterWriterError, match="gone"):
        Case(tree, configure=(str(tree / "gone"),)).make()


@pytest.mark.parametrize("kept", ["experiment", "working", "source"])
def test_overwriting_never_deletes_more_than_a_members_folder(tree, kept, monkeypatch):
    source = tree / "in.txt"
    case = Case(tree, kind="Model", configure=(str(source),))
    path = {"experiment": tree / "exp", "working": tree / "work", "source": tree}[kept]
    path.mkdir(exist_ok=True)
    if kept == "working":
        monkeypatch.chdir(path)
    case.entity = case.entity.model_copy(update={"path": str(path)})
    with pytest.raises(FileExistsError, match="would delete"):
        case.make(overwrite=True)
    assert source.exists()


def test_a_folder_that_the_user_chose_may_be_there_and_is_never_deleted(tree):
    chosen = tree / "mine"
    chosen.mkdir()
    (chosen / "precious").write_text("kept")
    case = Case(tree, kind="Model", configure=(str(tree / "in.txt"),), params={"T": "1"})
    case.members[0] = case.members[0].model_copy(update={"path": str(chosen)})
    case.make_all()
    with pytest.raises(FileExistsError, match="mine"):
        case.make_all()
    case.make_all(overwrite=True)
    case.run = case.run.model_copy(update={"run_id": "r2"})
    case.make(overwrite=True)
    assert contents(chosen) == {"precious": "kept", "in.txt": "T = 1\n"}


def test_unknown_tags_are_kept_when_the_record_allows_them(tree):
    (tree / "in.txt").write_text(";T; ;U;")
    folder = Case(tree, configure=(str(tree / "in.txt"),), allow_unknown_tags=True).make()
    assert (folder / "in.txt").read_text() == "0 U"
    with pytest.raises(ParameterWriterError, match=";U;"):
        Case(tree, configure=(str(tree / "in.txt"),), run_id="r2").make()


def test_another_tag_is_taken_literally(tree):
    (tree / "in.txt").write_text("a.*T.*b .T.")
    folder = Case(tree, configure=(str(tree / "in.txt"),), tag=".*").make()
    assert (folder / "in.txt").read_text() == "a0b .T."


def test_the_experiments_record_keeps_what_was_generated_before(tree):
    exp = Experiment("exp", tree)
    run_settings = exp.create_run_settings("/bin/true")

    def recorded():
        text = (tree / "taskensemble_params.txt").read_text()
        return [line.removeprefix("# Model name: ") for line in text.splitlines() if line.startswith("# Model name: ")]

    def generate(name, values, **keywords):
        exp.generate(exp.create_ensemble(name, {"T": values}, run_settings=run_settings), **keywords)

    generate("a", [1, 2])
    generate("b", [3])
    assert recorded() == ["a_0", "a_1", "b_0"]
    with pytest.raises(InputError, match="generate"):
        exp.generate()
    assert recorded() == ["a_0", "a_1", "b_0"]
    generate("a", [7], overwrite=True)
    assert recorded() == ["b_0", "a_0"]
    assert "a_0\nT = 7\n" in (tree / "taskensemble_params.txt").read_text()


@pytest.mark.parametrize("generated", [False, True])
def test_a_result_is_put_aside_when_another_run_gets_the_folder_and_not_before(tree, generated):
    (tree / "result.json").write_text("given")
    copied = (str(tree / "result.json"),)
    if generated:
        Case(tree, run_id="generate", copy=copied).make_all()
    first = Case(tree, generated=generated, copy=copied)
    result = first.make() / "result.json"
    assert result.read_text() == "given"
    result.write_text("first")
    first.make()
    assert result.read_text() == "first"
    Case(tree, run_id="r2", generated=generated, copy=copied).make()
    assert contents(result.parent) == {"result.json.1": "first"} | ({} if generated else {"result.json": "given"})


def test_a_result_stays_for_another_member_that_is_started_in_the_same_folder(tree):
    first = Case(tree)
    result = first.make() / "result.json"
    result.write_text("{}")
    second = Case(tree, run_id="r2")
    second.members = [
        MemberRecord(index=0, entity=0, template=0, name="post", path=str(result.parent)),
    ]
    second.make()
    assert result.read_text() == "{}"
    assert not is_passed_on(result.parent, first.members[0], first.run)
