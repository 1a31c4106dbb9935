"""What SmartSim's telemetry keeps of an entity."""

from taskensemble.smartsim._core.control.job import JobEntity

__all__ = ["JobEntity"]
