import sys

import pytest
from hypothesis import settings as hypothesis_settings

from taskensemble.settings import RunSettings

# A machine that does other things as well is slow now and then, which is no fault of the code.
hypothesis_settings.register_profile("shared-machine", deadline=None)
hypothesis_settings.load_profile("shared-machine")


@pytest.fixture
def settings():
    return RunSettings(sys.executable, exe_args="simulate.py --fast")
