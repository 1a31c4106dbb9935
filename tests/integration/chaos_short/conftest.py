"""The fixtures of the chaos harness."""

from tests.chaos.conftest import broker, dice, journal, plane, pytest_generate_tests, tell

__all__ = ["broker", "dice", "journal", "plane", "pytest_generate_tests", "tell"]
