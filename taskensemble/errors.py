"""The errors of taskensemble: one small tree.

Every message names the argument, the value that was given and the way out. Wrong input raises an `InputError` (which is a
`ValueError` too, so that callers who catch the built-in keep working) before anything is enqueued.
"""

from __future__ import annotations


class TaskensembleError(Exception):
    """Base of every error that taskensemble raises on purpose."""


class InputError(TaskensembleError, ValueError):
    """An argument has a value that cannot be used."""


class InputTypeError(TaskensembleError, TypeError):
    """An argument has a type that cannot be used."""


class UnsupportedError(TaskensembleError):
    """What was asked for is valid somewhere, but not on this launcher, backend or server."""


class UnsupportedSettingsError(UnsupportedError, TypeError):
    """Run or batch settings of a type that the launcher cannot use."""


class EntityExistsError(TaskensembleError):
    """Two entities, or two assets, of one name."""


class EntityRunningError(EntityExistsError, UnsupportedError):
    """An entity of that name has not ended yet."""


class UserStrategyError(TaskensembleError):
    """A user's permutation strategy returned something else than a list of dicts."""


class ParameterWriterError(TaskensembleError):
    """A tagged file could not be configured: an unknown tag, or a file that cannot be read or written."""


class ReservedKeywordError(TaskensembleError):
    """A setting that taskensemble writes itself was given by the user."""


class DatabaseIdentifierError(TaskensembleError):
    """Two active databases of one identifier."""


class DatabaseFilesError(TaskensembleError):
    """The files of a checkpointed database cannot be read."""


class DatabaseError(TaskensembleError):
    """A database could not be started, reached or stopped."""


class AssetError(TaskensembleError):
    """An ML asset could not be loaded into a database or failed its check there."""


class TransferError(TaskensembleError):
    """A file could not be sent, fetched or written where hosts share no file system, or is not what was sent."""


class PreviewFormatError(UnsupportedError):
    """A preview was asked for in a format that does not exist."""


class LauncherError(TaskensembleError):
    """A launcher, a scheduler or one of its commands failed or is missing."""


class LauncherUnsupportedError(LauncherError):
    """The launcher cannot do what was asked."""


class AllocationError(LauncherError):
    """An allocation could not be obtained, used or released."""


class ShellError(LauncherError):
    """A command of a scheduler or a shell exited with an error."""


class ControlPlaneError(TaskensembleError):
    """The broker or the record store could not be started or reached."""


class RecordSchemaError(TaskensembleError):
    """A record was written by a version with another schema; the message says which version to install."""


class RunNotFoundError(TaskensembleError):
    """No run of that id, or nothing was started yet."""


class RunFailedError(TaskensembleError):
    """A run ended FAILED as a whole: the reason is the message."""
