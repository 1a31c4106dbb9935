"""A preview without the checks of a start: of anything, as it is now."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from taskensemble.preview import check_arguments
from taskensemble.smartsim._core.control.job import Job
from taskensemble.smartsim._core.control.manifest import Manifest
from taskensemble.smartsim.preview import render as render_text
from taskensemble.smartsim.preview import write_preview

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskensemble.entity import Database
    from taskensemble.smartsim.experiment import Experiment


class Format(StrEnum):
    """Of a preview."""

    PLAINTEXT = "plain_text"


class Verbosity(StrEnum):
    """Of a preview: debug and developer tell the same."""

    INFO = "info"
    DEBUG = "debug"
    DEVELOPER = "developer"


def get_ifname(value: Iterable[str] | None) -> str:
    """The network interface in the arguments of a database's program; empty: there is none."""
    return next((argument.rpartition("=")[2] for argument in value or () if "ifname=" in argument), "")


def get_dbtype(value: str | None) -> str:
    """The kind of database that a path of a command-line client names: `redis` for `/bin/redis-cli`; empty: it is none."""
    name = (value or "").rpartition("/")[2]
    return name.partition("-")[0] if "-cli" in name else ""


def render(
    exp: Experiment,
    manifest: Manifest | None = None,
    verbosity_level: Verbosity | str = Verbosity.INFO,
    output_format: Format | str = Format.PLAINTEXT,
    output_filename: str | None = None,
    active_dbjobs: Mapping[str, Database | Job] | None = None,
) -> str:
    """What a start of a manifest's entities would run, as text.

    Args:
        exp: whose name, folder and launcher are told.
        manifest: the entities; None: none.
        verbosity_level, output_format, output_filename: as for `Experiment.preview`; there is no other format here than text.
        active_dbjobs: databases that run already, or their jobs, by identifier.

    Raises:
        PreviewFormatError, ValueError: no such format or level.
    """
    level, text_format = (str(getattr(each, "value", each)) for each in (verbosity_level, output_format))
    check_arguments(level, text_format)
    entities = [] if manifest is None else [*manifest.models, *manifest.ensembles, *manifest.dbs]
    active = {name: each.entity if isinstance(each, Job) else each for name, each in (active_dbjobs or {}).items()}
    text = render_text(exp, entities, active, level)
    write_preview(text, output_filename)
    return text
