"""What a worker's owner lets members do: which programs they may be, and which folders they may touch.

`--allow-executables` and `--allow-roots` keep runs from what a worker is not for. They judge real paths: links are followed and
`..` is resolved. They do not judge what a permitted program does: who permits a shell, an interpreter or a launcher such as
`mpirun` permits all that it starts.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskensemble.engine.records import AssetRecord, EntityRecord, MemberRecord, TemplateRecord
from taskensemble.errors import InputError, TaskensembleError
from taskensemble.generation import member_folder
from taskensemble.transfer.scratch import VARIABLE as SCRATCH
from taskensemble.trees import walk
from workers.ends import FOLDER as ENDS

EXECUTABLES, ROOTS = "TASKENSEMBLE_ALLOW_EXECUTABLES", "TASKENSEMBLE_ALLOW_ROOTS"
_LOADERS = re.compile(
    r"LD_.+|GCONV_PATH|LOCPATH|OPENSSL_(CONF|ENGINES|MODULES)"  # the system's libraries
    r"|BASH_ENV|BASH_FUNC_.*|SHELLOPTS|BASHOPTS|PS4"
    r"|PYTHON(PATH|HOME|STARTUP|USERBASE|INSPECT|BREAKPOINT|WARNINGS|EXECUTABLE|PLATLIBDIR|PYCACHEPREFIX)"
    r"|PERL5?(LIB|OPT|DB)|RUBY(LIB|OPT)|NODE_(OPTIONS|PATH)|(JAVA_TOOL|JDK_JAVA|_JAVA)_OPTIONS|CLASSPATH"
    r"|LUA_(INIT|C?PATH)(_5_\d)?|TCLLIBPATH|R_(PROFILE|ENVIRON|LIBS)(_USER|_SITE)?|JULIA_(LOAD|DEPOT)_PATH"
)
"""Variables by which the system's libraries, a shell or an interpreter put foreign code into a permitted program or script."""


class RefusedError(TaskensembleError):
    """A member wants what this worker does not allow."""


@dataclass(frozen=True)
class Limits:
    """What members of a worker may do.

    Attributes:
        executables: real paths of programs, or of folders with programs; None: any.
        roots: real paths of folders that hold members' folders and the files that they are given; None: any.
    """

    executables: tuple[Path, ...] | None = None
    roots: tuple[Path, ...] | None = None

    def check_folder(self, entity: EntityRecord, template: TemplateRecord, member: MemberRecord) -> None:
        """Checks where a member runs and which files it is given, before anything is made.

        Raises:
            RefusedError: one of them is outside the roots.
        """
        if self.roots is None:
            return
        self._check_path("its folder", member_folder(entity, member))
        files = template.files
        for source in (*files.copy_, *files.symlink, *files.configure):
            for path in _with_links(Path(source)):
                self._check_path("its file", path)
        self.check_assets(template.assets)
        for use in template.databases:
            if use.colocated is not None and use.colocated.unix_socket:
                self._check_path("the socket of its database", Path(use.colocated.unix_socket))

    def check_assets(self, assets: Iterable[AssetRecord]) -> None:
        """Checks the files that ML assets are read from.

        Raises:
            RefusedError: one of them is outside the roots.
        """
        for asset in assets if self.roots is not None else ():
            if asset.path is not None:
                self._check_path(f"the file of its ML asset {asset.name!r}", Path(asset.path))

    def check_program(
        self, argv: Sequence[str], environment: Mapping[str, str], folder: Path, own: Mapping[str, str]
    ) -> None:
        """Checks the program that a command line starts.

        Arguments:
            environment: the member's, its secrets included.
            folder: the member's, which a relative path begins at.
            own: the worker's environment.

        Raises:
            RefusedError: the program is not allowed, or the environment would put other code into it.
        """
        if self.executables is None:
            return
        for name in filter(_LOADERS.fullmatch, environment):
            if environment[name] not in ("", own.get(name, "")):
                raise RefusedError(
                    f"{name} is set for it, and this worker's --allow-executables names what may be loaded"
                )
        known = own.get("PATH", os.defpath).split(os.pathsep)
        for entry in environment.get("PATH", os.defpath).split(os.pathsep):
            # A permitted script finds there what it calls; an entry that is no absolute path means the member's folder.
            if entry not in known and not (os.path.isabs(entry) and self._permits(Path(entry).resolve())):
                raise RefusedError(
                    f"its PATH has {entry!r}, which is neither in this worker's PATH nor in its --allow-executables"
                )
        # The program is looked for from within the member's folder: an empty or relative entry of its PATH means that one.
        path = os.pathsep.join(str(folder / entry) for entry in environment.get("PATH", os.defpath).split(os.pathsep))
        found = str(folder / argv[0]) if "/" in argv[0] else shutil.which(argv[0], path=path)
        real = Path(found).resolve() if found else None
        if real is None or not self._permits(real):
            where = f" ({real})" if real is not None and str(real) != argv[0] else ""
            raise RefusedError(f"the program {argv[0]!r}{where} is not in this worker's --allow-executables")

    def _permits(self, real: Path) -> bool:
        return any(real.is_relative_to(allowed) for allowed in self.executables or ())

    def _check_path(self, what: str, path: Path) -> None:
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in self.roots or ()):
            where = f" ({real})" if real != path else ""
            raise RefusedError(f"{what} {str(path)!r}{where} is outside of this worker's --allow-roots")


def limits_of(executables: Sequence[str], roots: Sequence[str], environment: Mapping[str, str]) -> Limits:
    """The limits that a worker's options, or else its environment, ask for.

    Raises:
        InputError: a program cannot be found, or a root is no folder.
    """
    programs = tuple(executables) or _listed(environment.get(EXECUTABLES))
    folders = tuple(roots) or _listed(environment.get(ROOTS))
    return Limits(
        None if programs is None else tuple(_program(name) for name in programs),
        None if folders is None else tuple(_root(name) for name in folders),
    )


def check_own_folders(environment: Mapping[str, str]) -> None:
    """Checks the folders that a worker is told to use itself: found out later, each of its members would fail.

    Raises:
        InputError: one cannot be made or written to.
    """
    for variable in (SCRATCH, ENDS):
        given = environment.get(variable)
        if not given:
            continue
        try:
            os.makedirs(given, mode=0o700, exist_ok=True)
            reason = "" if os.access(given, os.W_OK | os.X_OK) else "Permission denied"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise InputError(
                f"{variable}={given!r} cannot be used: {reason}; give a folder that this worker may write to"
            )


def _listed(value: str | None) -> tuple[str, ...] | None:
    return tuple(part for part in value.split(os.pathsep) if part) if value else None


def _program(name: str) -> Path:
    path = name if os.path.isdir(name) else shutil.which(name)
    if path is None:
        raise InputError(f"--allow-executables {name!r} is neither a program nor a folder of programs on this machine")
    return Path(path).resolve()


def _root(name: str) -> Path:
    if not os.path.isdir(name):
        raise InputError(f"--allow-roots {name!r} is no folder on this machine")
    return Path(name).resolve()


def _with_links(path: Path) -> Iterator[Path]:
    """A path, and the links in it when it is a folder."""
    yield path
    for parent, folders, files in walk(path):
        for name in (*folders, *files):
            entry = Path(parent, name)
            if entry.is_symlink():
                yield entry
