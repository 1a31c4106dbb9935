"""The SmartSim release whose names these are."""

__version__ = "0.8.0"
