"""Tags in text: what is replaced, what stays, what is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskensemble.errors import ParameterWriterError
from taskensemble.tags import check_file, configure

NAME = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)
TAG = st.text(st.sampled_from("@$%.*+?()[]{}|^\\;#"), min_size=1, max_size=3)
PLAIN = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="@$%.*+?()[]{}|^\\;#"), max_size=10
)


@given(st.lists(st.tuples(PLAIN, NAME), max_size=6), PLAIN, TAG, st.data())
def test_each_tag_is_replaced_by_its_value_whatever_its_characters(pieces, end, tag, data):
    params = {name: data.draw(PLAIN) for _, name in pieces}
    text = "".join(f"{plain}{tag}{name}{tag}" for plain, name in pieces) + end
    assert configure(text, params, tag) == "".join(f"{plain}{params[name]}" for plain, name in pieces) + end


@given(st.text())
def test_text_without_tags_stays_as_it_is(text):
    assert configure(text.replace(";", ","), {"a": "1"}) == text.replace(";", ",")


@given(st.dictionaries(NAME, PLAIN, min_size=1, max_size=4))
def test_values_that_look_like_tags_are_not_replaced_again(params):
    tagged = {name: f";{value};" for name, value in params.items()}
    text = "\n".join(f";{name};" for name in params)
    assert configure(text, tagged) == "\n".join(tagged.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T = ;T;", "T = 95"),
        (";T; ;N; ;T;", "95 50 95"),
        (";T;;N;", "9550"),
        ("a; b = ;T;;", "a; b = 95;"),
        ("for (;;) x = ;T;;", "for (;;) x = 95;"),
        ("one ; alone", "one ; alone"),
        ("; T;", "; T;"),
        ("a;\nb;T\n;T;", "a;\nb;T\n95"),
        (";T;\r\n;N;\r\n", "95\r\n50\r\n"),
        ("", ""),
    ],
)
def test_lines_are_configured_like_this(text, expected):
    assert configure(text, {"T": "95", "N": "50"}) == expected


@pytest.mark.parametrize(
    ("text", "line", "tag"), [(";X;", 1, ";X;"), ("a\n;T; ;X; ;T;", 2, ";X;"), ("a;b;c", 1, ";b;")]
)
def test_an_unknown_tag_is_an_error_that_names_file_line_and_tag(tmp_path, text, line, tag):
    path = tmp_path / "in.txt"
    path.write_text(text)
    with pytest.raises(
        ParameterWriterError, match=rf"{path}, line {line}: the tag {tag} names no parameter.*N, T"
    ) as caught:
        check_file(str(path), frozenset({"T", "N"}), ";", False)
    assert "allow_unknown_tags" in str(caught.value)


def test_unknown_tags_keep_their_text_when_they_are_allowed():
    assert configure(";X; ;T; ;90;", {"T": "95"}, allow_unknown_tags=True) == "X 95 90"


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text(";T;")
    assert check_file(str(path), frozenset("T"), ";", False).fill({"T": "1"}) == "1"
    path.write_text("now ;T;")
    assert check_file(str(path), frozenset("T"), ";", False).fill({"T": "1"}) == "now 1"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ParameterWriterError, match="nowhere"):
        check_file(str(tmp_path / "nowhere"), frozenset(), ";", False)
