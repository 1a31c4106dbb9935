"""A preview without the checks of a start: of anything, as it is now."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from taskensemble.preview import check_arguments
from taskensemble.smartsim._core.control.manifest import Manifest
from taskensemble.smartsim.preview import render as render_text
from taskensemble.smartsim.preview import write_preview

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def render(
    exp: Experiment,
    manifest: Manifest | None = None,
    verbosity_level: Verbosity | str = Verbosity.INFO,
    output_format: Format | str = Format.PLAINTEXT,
    output_filename: str | None = None,
    active_dbjobs: Mapping[str, Database] | None = None,
) -> str:
    """What a start of a manifest's entities would run, as text.

    Args:
        exp: whose name, folder and launcher are told.
        manifest: the entities; None: none.
        verbosity_level, output_format, output_filename: as for `Experiment.preview`; there is no other format here than text.
        active_dbjobs: databases that run already, by identifier.

    Raises:
        PreviewFormatError, ValueError: no such format or level.
    """
    level, text_format = (str(getattr(each, "value", each)) for each in (verbosity_level, output_format))
    check_arguments(level, text_format)
    entities = [] if manifest is None else [*manifest.models, *manifest.ensembles, *manifest.dbs]
    text = render_text(exp, entities, active_dbjobs or {}, level)
    write_preview(text, output_filename)
    return text
