"""SmartSim's names for the errors of taskensemble.

Here every one of them is a `SmartSimError`, and `SSInternalError` is the same; in SmartSim they are two trees, and
`SSUnsupportedError` is a third. The names that
nothing of ours raises exist for the drivers that catch them.
"""

from taskensemble.errors import (
    AllocationError,
    DatabaseFilesError,
    DatabaseIdentifierError,
    EntityExistsError,
    InputError,
    LauncherError,
    LauncherUnsupportedError,
    ParameterWriterError,
    PreviewFormatError,
    ReservedKeywordError,
    ShellError,
    TaskensembleError,
    UnsupportedError,
    UserStrategyError,
)

SmartSimError = TaskensembleError
SSUnsupportedError = UnsupportedError
SSReservedKeywordError = ReservedKeywordError
SSDBIDConflictError = DatabaseIdentifierError
SSDBFilesNotParseable = DatabaseFilesError
LauncherUnsupportedFeature = LauncherUnsupportedError
SSInternalError = TaskensembleError
SSConfigError = InputError


class TelemetryError(SSInternalError):
    """Telemetry could not be written."""


class UnproxyableStepError(TelemetryError):
    """A step that telemetry cannot follow."""


class SmartSimCLIActionCancelled(SmartSimError):
    """A command was ended by its user."""


__all__ = [
    "AllocationError",
    "EntityExistsError",
    "LauncherError",
    "LauncherUnsupportedFeature",
    "ParameterWriterError",
    "PreviewFormatError",
    "SSConfigError",
    "SSDBFilesNotParseable",
    "SSDBIDConflictError",
    "SSInternalError",
    "SSReservedKeywordError",
    "SSUnsupportedError",
    "ShellError",
    "SmartSimCLIActionCancelled",
    "SmartSimError",
    "TelemetryError",
    "UnproxyableStepError",
    "UserStrategyError",
]
