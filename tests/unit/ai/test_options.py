from __future__ import annotations

import pytest

from taskensemble.ai import Client, ConfigOptions
from taskensemble.ai.error import RedisConnectionError, RedisKeyError, RedisRuntimeError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSDB", "SR_DB_TYPE", "SSKEYIN", "SSKEYOUT", "SR_CMD_TIMEOUT", "SR_CONN_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def test_a_suffix_chooses_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSDB_ocean", "a:1")
    options = ConfigOptions.create_from_environment("ocean")
    assert options.is_configured("SSDB")
    assert options.get_string_option("SSDB") == "a:1"
    with pytest.raises(RedisKeyError, match="SR_DB_TYPE_ocean"):
        options.get_string_option("SR_DB_TYPE")
    with pytest.raises(ValueError, match="SSDB_ocean must be a valid number"):
        options.get_integer_option("SSDB")


def test_an_override_counts_for_its_object_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSDB", "a:1")
    mine, other = ConfigOptions.create_from_environment(""), ConfigOptions.create_from_environment("")
    mine.override_string_option("SSDB", "b:2")
    mine.override_integer_option("SR_CMD_TIMEOUT", 3)
    assert mine.get_string_option("SSDB") == "b:2"
    assert mine.get_integer_option("SR_CMD_TIMEOUT") == 3
    assert other.get_string_option("SSDB") == "a:1"
    assert not other.is_configured("SR_CMD_TIMEOUT")


def test_overrides_with_numbers_and_with_texts_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "42")
    options = ConfigOptions.create_from_environment("")
    options.override_integer_option("N", 3)
    assert (options.get_integer_option("N"), options.get_string_option("N")) == (3, "42")
    options.override_string_option("T", "12")
    assert options.is_configured("T")
    with pytest.raises(RedisKeyError):
        options.get_integer_option("T")
    for ask in (options.is_configured, options.get_string_option, options.get_integer_option):
        with pytest.raises(RedisKeyError):
            ask("")


def test_an_object_without_a_source_is_refused() -> None:
    with pytest.raises(RedisRuntimeError, match="create_from_environment"):
        ConfigOptions().get_string_option("SSDB")


@pytest.mark.parametrize("arguments", [{}, {"cluster": False}])
def test_a_client_without_an_address_says_which_variable_is_missing(arguments: dict[str, bool]) -> None:
    with pytest.raises(RedisConnectionError, match="SSDB"):
        Client(**arguments)


@pytest.mark.parametrize("value", ["0", "-1", "abc"])
def test_a_limit_that_is_no_positive_number_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SSDB", "127.0.0.1:1")
    monkeypatch.setenv("SR_CMD_TIMEOUT", value)
    with pytest.raises(ValueError, match="SR_CMD_TIMEOUT"):
        Client(cluster=False)


def test_arguments_of_no_form_are_refused() -> None:
    with pytest.raises(TypeError, match="argument 0"):
        Client(3)
    with pytest.raises(TypeError, match="foo"):
        Client(foo=3)
    with pytest.raises(TypeError, match="address"):
        Client(False, 42)


def test_a_server_that_is_not_there_is_given_up_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_CONN_TIMEOUT", "1")
    with pytest.raises(RedisConnectionError, match=r"127\.0\.0\.1:1"):
        Client(cluster=False, address="127.0.0.1:1")


def test_a_socket_is_no_cluster() -> None:
    with pytest.raises(RedisConnectionError, match="Unix Domain Socket"):
        Client(cluster=True, address="unix:///nowhere")
