"""Containers that a program runs in."""

from __future__ import annotations

import logging
import shlex
import shutil

from taskensemble.errors import InputTypeError

logger = logging.getLogger(__name__)


class Container:
    """An image and how it is entered.

    Parameters:
        image: local path or remote name of the image.
        args: arguments of the container's command; a str is split by shell rules.
        mount: paths to bind: a str, a list of them, or a dict of host path → path in the image (None: the same).
        working_directory: where the program starts; empty: the member's folder.

    Raises:
        InputTypeError: an argument has another type.
    """

    def __init__(
        self,
        image: str,
        args: str | list[str] = "",
        mount: str | list[str] | dict[str, str | None] = "",
        working_directory: str = "",
    ) -> None:
        if not isinstance(image, str):
            raise InputTypeError(f"image={image!r} must be a str")
        if not isinstance(args, (str, list)):
            raise InputTypeError(f"args={args!r} must be a str or a list of str")
        if not isinstance(mount, (str, list, dict)):
            raise InputTypeError(f"mount={mount!r} must be a str, a list of str or a dict of paths")
        if not isinstance(working_directory, str):
            raise InputTypeError(f"working_directory={working_directory!r} must be a str")
        self.image = image
        self.args = args
        self.mount = mount
        self.working_directory = working_directory

    def wrap(self, program: list[str]) -> list[str]:
        """The command line that runs `program` inside the container."""
        raise NotImplementedError(f"{type(self).__name__} cannot run a program; use Singularity")


class Singularity(Container):
    """A Singularity (or Apptainer) container.

    It starts in `working_directory`, or in the member's folder, which is bound for it. Where neither `singularity` nor
    `apptainer` is found, the command is written as `singularity`: it may exist on the compute nodes only.
    """

    def wrap(self, program: list[str]) -> list[str]:
        """The command line that runs `program` inside the container.

        Members of an ensemble share one command line but not their folder, so the folder is put in by a shell at the start,
        on the node where the program runs.
        """
        if self.working_directory:
            return [*self._container_cmds(self.working_directory), *program]
        command, execute, *rest = self._container_cmds()
        binds = self._binds()
        rest = [*self._arguments(), self.image] if binds else rest
        bind = ",".join(["$PWD", *(_in_double_quotes(path) for path in binds)])
        return ["/bin/sh", "-c", f'exec "$0" {execute} --pwd "$PWD" --bind "{bind}" "$@"', command, *rest, *program]

    def _container_cmds(self, default_working_directory: str = "") -> list[str]:
        """What stands before the program, with the working folder bound."""
        working_directory = self.working_directory or default_working_directory
        binds = self._binds()
        if working_directory and not any(path.split(":")[0] == working_directory for path in binds):
            binds.insert(0, working_directory)
        commands = [_singularity(), "exec"]
        if working_directory:
            commands += ["--pwd", working_directory]
        commands += self._arguments()
        if binds:
            commands += ["--bind", ",".join(binds)]
        return [*commands, self.image]

    def _arguments(self) -> list[str]:
        return shlex.split(self.args) if isinstance(self.args, str) else list(self.args)

    def _binds(self) -> list[str]:
        if isinstance(self.mount, dict):
            return [f"{host}:{inside}" if inside else host for host, inside in self.mount.items()]
        return [self.mount] if isinstance(self.mount, str) and self.mount else list(self.mount)


def _singularity() -> str:
    found = shutil.which("singularity") or shutil.which("apptainer")
    if not found:
        logger.warning("Unable to find singularity. Continuing in case singularity is available on compute node")
    return found or "singularity"


def _in_double_quotes(text: str) -> str:
    return "".join(f"\\{char}" if char in '"\\$`' else char for char in text)
