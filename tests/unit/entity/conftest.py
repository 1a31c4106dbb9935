import sys

import pytest

from taskensemble.settings import RunSettings


@pytest.fixture
def settings():
    return RunSettings(sys.executable, exe_args="simulate.py --fast")
