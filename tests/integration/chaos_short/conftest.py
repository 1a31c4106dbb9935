"""The fixtures of the chaos harness."""

from tests.chaos.conftest import broker, dice, journal, plane, pytest_generate_tests, tell
from tests.chaos.test_faults_members import small_disk

__all__ = ["broker", "dice", "journal", "plane", "pytest_generate_tests", "small_disk", "tell"]
