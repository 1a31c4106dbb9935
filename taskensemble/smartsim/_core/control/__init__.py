"""What a start is given, sorted by kind, started, and shown."""

from taskensemble.smartsim._core.control.controller import Controller
from taskensemble.smartsim._core.control.manifest import Manifest

__all__ = ["Controller", "Manifest"]
