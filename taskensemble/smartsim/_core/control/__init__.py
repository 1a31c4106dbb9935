"""What a start is given, sorted by kind, and shown."""

from taskensemble.smartsim._core.control.manifest import Manifest

__all__ = ["Manifest"]
