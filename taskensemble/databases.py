"""The standard databases of an experiment: started, found, attached, stopped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from taskensemble.engine.records import State
from taskensemble.errors import DatabaseIdentifierError, RunNotFoundError

if TYPE_CHECKING:
    from taskensemble.entity import Database
    from taskensemble.experiment import Experiment
    from taskensemble.launch.control import ControlPlane
