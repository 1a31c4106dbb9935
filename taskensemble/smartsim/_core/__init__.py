"""Those parts of SmartSim's inside that scripts reach for: there is no controller, launcher or step behind them."""

from taskensemble.smartsim._core.control import Controller, previewrenderer
from taskensemble.smartsim._core.control.manifest import Manifest

__all__ = ["Controller", "Manifest", "previewrenderer"]
