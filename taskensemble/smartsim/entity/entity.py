"""The base of all entities, and the switch of their telemetry."""

from taskensemble.entity import Entity as SmartSimEntity


class TelemetryConfiguration:
    """Whether telemetry is wanted. A run's record has everything that SmartSim's telemetry collects, so nothing depends on it."""

    def __init__(self, enabled: bool = False) -> None:
        self._enabled = enabled

    @property
    def is_enabled(self) -> bool:
        """Whether it is on."""
        return self._enabled

    def enable(self) -> None:
        """Switch it on."""
        self._enabled = True

    def disable(self) -> None:
        """Switch it off."""
        self._enabled = False


__all__ = ["SmartSimEntity", "TelemetryConfiguration"]
