"""Generation of folders and files, apart from an experiment."""

from __future__ import annotations

import os

from taskensemble.entity import Entity
from taskensemble.errors import UnsupportedError
from taskensemble.smartsim.experiment import Experiment
from taskensemble.smartsim.records import RECORD


class Generator:
    """Makes the folders of entities in a folder of its own choice.

    Args:
        gen_path: the folder; it is made.
        overwrite: replace folders that are there.
        verbose: say what was made.
    """

    def __init__(self, gen_path: str, overwrite: bool = False, verbose: bool = True) -> None:
        self.gen_path = gen_path
        self.overwrite = overwrite
        self.verbose = verbose
        self._tag: str | None = None

    @property
    def log_file(self) -> str:
        """The record of the parameters of what was made last."""
        return os.path.join(self.gen_path, RECORD)

    def set_tag(self, tag: str, regex: str | None = None) -> None:
        """Say what stands around a parameter's name in tagged files.

        Raises:
            UnsupportedError: `regex` is given.
        """
        if regex:
            raise UnsupportedError(
                f"regex={regex!r}: folders are generated with tags, not with expressions; write the files with "
                "ModelWriter().set_tag(tag, regex)"
            )
        self._tag = tag

    def generate_experiment(self, *entities: Entity) -> None:
        """Make the folders of entities, which stay theirs.

        Raises:
            FileExistsError, ParameterWriterError: as `Experiment.generate`.
        """
        os.makedirs(self.gen_path, exist_ok=True)
        for entity in entities:
            entity.place(os.path.join(os.path.abspath(self.gen_path), entity.name))
        experiment = Experiment(os.path.basename(os.path.abspath(self.gen_path)), exp_path=self.gen_path)
        experiment.generate(*entities, tag=self._tag, overwrite=self.overwrite, verbose=self.verbose)


__all__ = ["Generator"]
