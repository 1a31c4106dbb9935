from __future__ import annotations

from pathlib import Path

import pytest

from taskensemble.ai import Dataset, LLDebug, LLInfo, LLQuiet, LogContext, log_data, log_error, log_warning
from taskensemble.ai.error import RedisRuntimeError


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("QUIET", ["c:ERROR: always"]),
        (None, ["c:one", "c:WARNING: two", "f:ERROR: three", "c:ERROR: always", "d:four"]),
        ("debug", ["c:one", "c:WARNING: two", "f:ERROR: three", "c:fine", "c:ERROR: always", "d:four"]),
    ],
)
def test_lines_are_written_down_to_the_level(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, level: str | None, expected: list[str]
) -> None:
    monkeypatch.setenv("SR_LOG_FILE", str(tmp_path / "log"))
    monkeypatch.delenv("SR_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("SR_LOG_LEVEL", level)
    context = LogContext("c")
    context.log_data(LLInfo, "one")
    log_warning("c", LLInfo, "two")
    log_error("f", LLInfo, "three")
    context.log_data(LLDebug, "fine")
    context.log_error(LLQuiet, "always")
    Dataset("d").log_data(LLInfo, "four")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition("@")[0] + line[line.index(":") :] for line in lines] == expected


def test_without_a_file_lines_go_to_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SR_LOG_FILE", raising=False)
    monkeypatch.delenv("SR_LOG_LEVEL", raising=False)
    log_data("context", LLInfo, "text")
    assert capsys.readouterr().out.endswith(":text\n")


def test_a_file_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_LOG_FILE", "/no/such/folder/log")
    monkeypatch.delenv("SR_LOG_LEVEL", raising=False)
    with pytest.raises(RedisRuntimeError, match="/no/such/folder/log"):
        log_data("context", LLInfo, "text")


def test_a_level_must_be_one() -> None:
    with pytest.raises(TypeError, match="level"):
        log_data("context", 2, "text")  # type: ignore[arg-type]
