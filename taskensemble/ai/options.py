"""Where a client's settings come from: environment variables, with or without a database identifier, and overrides."""

from __future__ import annotations

import os

from .error import RedisKeyError, RedisRuntimeError


class ConfigOptions:
    """Settings of one client. Make one with `create_from_environment`.

    With the identifier `"ocean"`, `SSDB` means the environment variable `SSDB_ocean`, and likewise for every other name.
    An override counts for this object alone. As in SmartRedis, overrides with numbers and with texts are apart: each is seen by
    the method for its own type only.
    """

    def __init__(self) -> None:
        self._suffix: str | None = None
        self._texts: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    @classmethod
    def create_from_environment(cls, db_suffix: str) -> ConfigOptions:
        """Settings from environment variables whose names end in `_<db_suffix>`, or plain ones for an empty suffix."""
        if not isinstance(db_suffix, str):
            raise TypeError(f"Argument db_suffix is of type {type(db_suffix)}, not {str}")
        options = cls()
        options._suffix = db_suffix
        return options

    def _variable(self, option_name: str) -> str:
        if self._suffix is None:
            raise RedisRuntimeError(
                "This ConfigOptions object has no source of settings: make it with ConfigOptions.create_from_environment"
            )
        if not isinstance(option_name, str):
            raise TypeError(f"Argument option_name is of type {type(option_name)}, not {str}")
        if not option_name:
            raise RedisKeyError("Argument option_name is an empty string: give the name of an option")
        return f"{option_name}_{self._suffix}" if self._suffix else option_name

    def is_configured(self, option_name: str) -> bool:
        """Whether the option is set or overridden.

        Raises:
            RedisKeyError: the name is empty.
        """
        variable = self._variable(option_name)
        return option_name in self._texts or option_name in self._numbers or variable in os.environ

    def get_string_option(self, option_name: str) -> str:
        """The option's text.

        Raises:
            RedisKeyError: it is not set.
        """
        variable = self._variable(option_name)
        if option_name in self._texts:
            return self._texts[option_name]
        return _environment(variable, "get_string_option")

    def get_integer_option(self, option_name: str) -> int:
        """The option's number.

        Raises:
            RedisKeyError: it is not set.
            ValueError: it is not a whole number.
        """
        variable = self._variable(option_name)
        if option_name in self._numbers:
            return self._numbers[option_name]
        text = _environment(variable, "get_integer_option")
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"The value of {variable} must be a valid number, not {text!r}.") from None

    def override_integer_option(self, option_name: str, value: int) -> None:
        """Set a number for this object, whatever the environment says."""
        self._variable(option_name)
        if not isinstance(value, int):
            raise TypeError(f"Argument value is of type {type(value)}, not {int}")
        self._numbers[option_name] = value

    def override_string_option(self, option_name: str, value: str) -> None:
        """Set a text for this object, whatever the environment says."""
        self._variable(option_name)
        if not isinstance(value, str):
            raise TypeError(f"Argument value is of type {type(value)}, not {str}")
        self._texts[option_name] = value

    def text(self, option_name: str, default: str = "") -> str:
        """The option's text, or the default when it is not set."""
        try:
            return self.get_string_option(option_name)
        except RedisKeyError:
            return default

    def number(self, option_name: str, default: int, *, least: int = 1) -> int:
        """The option's number, or the default when it is not set.

        Raises:
            ValueError: it is not a whole number, or less than `least`.
        """
        try:
            value = self.get_integer_option(option_name)
        except RedisKeyError:
            return default
        if value < least:
            raise ValueError(f"{option_name} {value} must be greater than {least - 1}.")
        return value


def _environment(variable: str, method: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise RedisKeyError(
            f"No value found for key {variable}: set that environment variable", f"ConfigOptions.{method}"
        ) from None
