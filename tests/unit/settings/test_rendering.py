"""What run settings render, for whatever arguments, options and variables: nothing is lost, split, moved or made up."""

from __future__ import annotations

import copy
import shlex
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskensemble.settings import (
    AprunSettings,
    JsrunSettings,
    MpiexecSettings,
    MpirunSettings,
    OrterunSettings,
    PalsMpiexecSettings,
    RunSettings,
    SbatchSettings,
    SrunSettings,
)

MPI: list[type[RunSettings]] = [MpirunSettings, MpiexecSettings, OrterunSettings, PalsMpiexecSettings]
KINDS: list[type[RunSettings]] = [RunSettings, SrunSettings, AprunSettings, JsrunSettings, *MPI]

# Anything that an argument of a program may be: quotes, blanks, line breaks, dollars, other alphabets, nothing at all.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
ARGUMENTS = st.lists(TEXT, max_size=6)
OPTIONS = st.dictionaries(
    st.from_regex(r"[a-z][a-z-]{1,9}", fullmatch=True), st.none() | st.integers(0, 99) | TEXT, max_size=5
)
VARIABLES = st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.none() | TEXT, max_size=4)

kinds = pytest.mark.parametrize("kind", KINDS)


def made(kind: type[RunSettings], *args: Any, **further: Any) -> RunSettings:
    if kind in MPI:
        further["fail_if_missing_exec"] = False
    return kind(sys.executable, *args, **further)


@kinds
@given(arguments=ARGUMENTS, options=OPTIONS, variables=VARIABLES)
def test_arguments_end_the_command_line_as_they_are_and_survive_a_shells_reading(
    kind: type[RunSettings], arguments: list[str], options: dict[str, Any], variables: dict[str, str | None]
) -> None:
    head = made(kind, arguments, run_args=options, env_vars=variables).command().head
    assert list(head[len(head) - len(arguments) :]) == arguments
    assert head[len(head) - len(arguments) - 1] == sys.executable
    assert all(isinstance(word, str) for word in head)
    assert tuple(shlex.split(shlex.join(head))) == head


@given(first=ARGUMENTS, second=ARGUMENTS)
def test_arguments_in_one_text_are_those_of_the_list_and_further_ones_follow(
    first: list[str], second: list[str]
) -> None:
    listed, written = made(RunSettings, first), made(RunSettings, shlex.join(first))
    assert listed.exe_args == written.exe_args == first
    listed.add_exe_args(second)
    written.add_exe_args(shlex.join(second))
    assert listed.command() == written.command()
    assert listed.exe_args == [*first, *second]


@settings(max_examples=10)
@given(arguments=ARGUMENTS)
def test_a_program_gets_the_arguments_that_were_given(arguments: list[str]) -> None:
    echo = RunSettings(sys.executable, ["-S", "-c", "import sys; print(ascii(sys.argv[1:]))", *arguments])
    said = subprocess.run(echo.command().head, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == f"{arguments!a}\n"


@kinds
@given(arguments=ARGUMENTS, options=OPTIONS, variables=VARIABLES)
def test_rendering_changes_nothing_and_says_the_same_again(
    kind: type[RunSettings], arguments: list[str], options: dict[str, Any], variables: dict[str, str | None]
) -> None:
    given_before = copy.deepcopy((arguments, options, variables))
    program = made(kind, arguments, run_args=options, env_vars=variables)
    before = copy.deepcopy(vars(program))
    first = (program.command(), program.format_run_args(), program.format_env_vars(), str(program))
    assert vars(program) == before
    assert (program.command(), program.format_run_args(), program.format_env_vars(), str(program)) == first
    assert copy.deepcopy(program).command() == first[0]
    assert made(kind, arguments, run_args=options, env_vars=variables).command() == first[0]
    assert (arguments, options, variables) == given_before


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.reserved_run_args])
@given(data=st.data(), options=OPTIONS, value=st.none() | TEXT)
def test_reserved_options_are_refused_however_they_are_written(
    kind: type[RunSettings], data: st.DataObject, options: dict[str, Any], value: str | None
) -> None:
    program = made(kind, run_args={name: said for name, said in options.items() if name not in kind.reserved_run_args})
    before = program.command()
    reserved = data.draw(st.sampled_from(sorted(kind.reserved_run_args)))
    blank, dashes = data.draw(st.sampled_from(["", " "])), data.draw(st.sampled_from(["", "-", "--"]))
    program.set(f"{blank}{dashes}{reserved}{blank}", value)
    assert reserved not in program.run_args
    assert program.command() == before


@kinds
@given(name=st.from_regex(r"[a-z][a-z-]{1,9}", fullmatch=True), value=st.none() | TEXT, condition=st.booleans())
def test_any_other_option_is_set_once_and_only_when_its_condition_holds(
    kind: type[RunSettings], name: str, value: str | None, condition: bool
) -> None:
    program = made(kind)
    if name in program.reserved_run_args:
        return
    program.set(f"--{name}", value, condition)
    program.set(name, value, condition)
    assert program.run_args == ({name: value} if condition else {})


@given(variables=VARIABLES)
def test_srun_gets_each_variable_once_and_those_with_commas_or_no_value_by_name(
    variables: dict[str, str | None],
) -> None:
    text, beside = SrunSettings(sys.executable, env_vars=variables).format_comma_sep_env_vars()
    with_comma = [name for name, value in variables.items() if value is not None and "," in value]
    assert beside == [f"{name}={variables[name]}" for name in with_comma]
    plain = [
        name if value is None else f"{name}={value}" for name, value in variables.items() if name not in with_comma
    ]
    assert text == ",".join([*plain, *with_comma])


@pytest.mark.parametrize("kind", [SrunSettings, AprunSettings, JsrunSettings, *MPI])
def test_a_variable_without_a_value_is_never_the_word_none(kind: type[RunSettings]) -> None:
    assert not any("None" in word for word in made(kind, env_vars={"A": None, "B": "b"}).command().head)


@given(options=OPTIONS, lines=st.lists(st.text("abc $'\"#", max_size=9), max_size=4))
def test_a_batch_scripts_lines_are_its_directives_then_its_preamble_then_its_body(
    options: dict[str, Any], lines: list[str]
) -> None:
    batch = SbatchSettings(batch_args={name: None if said is None else str(said) for name, said in options.items()})
    batch.add_preamble(lines)
    record = batch.record()
    assert record == batch.record()
    assert list(record.preamble) == lines
    assert list(record.headers[4:]) == [f"#SBATCH {option}" for option in batch.format_batch_args()]
    assert record.script("n", "/o", "/e", ("body",)).endswith("\n".join(["", *lines, "", "body", ""]))
