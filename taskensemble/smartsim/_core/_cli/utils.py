"""Where the database's programs are."""

from __future__ import annotations

from pathlib import Path

from taskensemble.smartsim._core.config import CONFIG


def get_db_path() -> Path:
    """The database server that runs."""
    return Path(CONFIG.database_exe)
