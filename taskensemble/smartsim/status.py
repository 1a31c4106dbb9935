"""SmartSim's names for the states of members and databases."""

from enum import StrEnum


class SmartSimStatus(StrEnum):
    """Where a member or a database stands."""

    STATUS_RUNNING = "Running"
    STATUS_COMPLETED = "Completed"
    STATUS_CANCELLED = "Cancelled"
    STATUS_FAILED = "Failed"
    STATUS_NEW = "New"
    STATUS_PAUSED = "Paused"
    STATUS_NEVER_STARTED = "NeverStarted"
    STATUS_QUEUED = "Queued"


STATUS_RUNNING = SmartSimStatus.STATUS_RUNNING
STATUS_COMPLETED = SmartSimStatus.STATUS_COMPLETED
STATUS_CANCELLED = SmartSimStatus.STATUS_CANCELLED
STATUS_FAILED = SmartSimStatus.STATUS_FAILED
STATUS_NEW = SmartSimStatus.STATUS_NEW
STATUS_PAUSED = SmartSimStatus.STATUS_PAUSED
STATUS_NEVER_STARTED = SmartSimStatus.STATUS_NEVER_STARTED
STATUS_QUEUED = SmartSimStatus.STATUS_QUEUED

TERMINAL_STATUSES = {STATUS_CANCELLED, STATUS_COMPLETED, STATUS_FAILED}
"""The states that can no longer change."""
