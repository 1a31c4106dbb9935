"""A member's folder: where it is, what is put into it, and the record of its parameters.

Order: copied, linked, configured, recorded. The record is written last and names the run, so a folder that carries the
record of this run is complete: an attempt that is delivered again, or a retry, leaves it as it is. Whose `result.json` lies there
is told by the record too, without a clock: before a folder passes to another run, what the earlier one has left is put aside.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from taskensemble.engine.records import EntityRecord, FilesRecord, MemberRecord, RunRecord, TemplateRecord
from taskensemble.errors import ParameterWriterError
from taskensemble.tags import check_file
from taskensemble.trees import walk

RECORD = "taskensemble_params.txt"
RESULT = "result.json"
"""What a program leaves in its folder to be read back as its result."""
AHEAD = "generate"
"""In the record of a folder that was made ahead of any run: the id of that plan."""
_AT_ONCE = 4096
"""Bytes that one write puts into a file whole or not at all, whenever the process is killed."""
_NAME, _RUN = "# Model name: ", "# Run: "
"""How the first two lines of a folder's record begin: whose it is, and which run has it."""
_SECTION = f"\n{_NAME}"
"""How the experiment's record begins what it says of a member."""


def folder_path(entity: EntityRecord, member: MemberRecord) -> str:
    """Path of the member's folder: its own, else its entity's (a model), else one of its name there (in an ensemble)."""
    if member.path is not None:
        return member.path
    return entity.path if entity.kind == "Model" else os.path.join(entity.path, member.name)


def member_folder(entity: EntityRecord, member: MemberRecord) -> Path:
    """The member's folder, see `folder_path`."""
    return Path(folder_path(entity, member))


def generate_member(
    run: RunRecord, entity: EntityRecord, template: TemplateRecord, member: MemberRecord, overwrite: bool = False
) -> Path:
    """Make the folder of one member and put its files there.

    A folder that this run made already, or that was made ahead, is left as it is. One of an earlier run is kept with what is in
    it, its outputs and its result under a number (see `keep_outputs`), and the files are put there anew.

    Args:
        overwrite: empty a folder of an earlier run first, unless the user chose it: who knows what else is in there.

    Returns:
        Path: the folder.

    Raises:
        FileExistsError: a link's name is taken, or `overwrite` would delete more than a member's folder.
        FileNotFoundError: a file to copy or link is no longer there.
        ParameterWriterError: a file cannot be configured.
    """
    return Path(make_folder(run, entity, template, member, overwrite)[0])


def make_folder(
    run: RunRecord, entity: EntityRecord, template: TemplateRecord, member: MemberRecord, overwrite: bool = False
) -> tuple[str, bool]:
    """As `generate_member`, for the many that come one after the other on a worker: paths are strings, and a folder that was not
    there is known to be empty.

    Returns:
        tuple[str, bool]: the folder's path, and whether it is new.
    """
    folder = folder_path(entity, member)
    new = _make(folder)
    ahead = entity.generated or not run.generate
    if not new:
        name, earlier = _owner(folder)
        if earlier == run.run_id:
            return folder, False
        if overwrite and member.path is None and not ahead:
            clear(Path(folder), run, template.files)
            _make(folder)
        elif name == member.name and earlier != AHEAD:
            keep_outputs(folder, name, results=True, run=run)
        if ahead and name == member.name:
            _pass_on(folder, run)
    if not ahead:
        _fill(folder, run, template.files, member, new=new)
    return folder, new


def _pass_on(folder: str, run: RunRecord) -> None:
    """Say in the record of a folder that was made ahead which run has it now."""
    with open(os.path.join(folder, RECORD), encoding="utf-8", errors="surrogateescape") as stream:
        first, _, *rest = stream.readlines()
    text = "".join((first, f"{_RUN}{run.run_id}\n", *rest))
    _write_record(folder, text.encode("utf-8", "surrogateescape"))


def _make(folder: str) -> bool:
    """Make a folder, its parents included; False: it is there already."""
    try:
        os.mkdir(folder)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        return _make(folder)
    except FileExistsError:
        os.makedirs(folder, exist_ok=True)  # raises when it is something else
        return False
    return True


def generate_all(run: RunRecord, members: Iterable[MemberRecord], overwrite: bool = False) -> None:
    """Make the folders of all members ahead, and the experiment's record of their parameters.

    Raises:
        FileExistsError: a folder exists and `overwrite` is false; then nothing was made. A folder that the user chose may exist,
            as long as nothing was generated there.
        FileNotFoundError, ParameterWriterError: as `generate_member`.
    """
    listed = list(members)
    if overwrite:
        for entity in run.entities:
            _clear_stale(entity, run)
    else:
        for member in listed:
            folder = member_folder(run.entities[member.entity], member)
            # A folder that the user chose may be there before; a second generation into it may not.
            if (folder if member.path is None else folder / RECORD).exists():
                raise FileExistsError(
                    f"Directory for entity {member.name} already exists in path {folder}; give overwrite=True to replace it"
                )
    Path(run.path).mkdir(parents=True, exist_ok=True)
    for member in listed:
        folder, files = member_folder(run.entities[member.entity], member), run.templates[member.template].files
        if member.path is None and folder.exists():
            clear(folder, run, files)
        elif is_passed_on(folder, member, run):
            keep_outputs(folder, member.name, results=True)
        _fill(str(folder), run, files, member, new=_make(str(folder)))
    _record_experiment(Path(run.path, RECORD), run, listed)


def _fill(folder: str, run: RunRecord, files: FilesRecord, member: MemberRecord, *, new: bool) -> None:
    path, configured = os.path.join(folder, RECORD), []
    if files.copy_ or files.symlink or files.configure:
        _copy(files, Path(folder))
        _link(files, Path(folder))
        configured = _configure(files, Path(folder), member.params)
        new = False
    text = f"{_NAME}{member.name}\n{_RUN}{run.run_id}\n"
    text += "".join(f"# Configured: {name}\n" for name in configured) + _lines(member.params)
    written = text.encode("utf-8", "surrogateescape")
    if new and len(written) <= _AT_ONCE:
        _write(path, written, os.O_EXCL)
        return
    _write_record(folder, written)


def _write_record(folder: str, text: bytes) -> None:
    # A file that is not yet whole must not pass for a record.
    partial = os.path.join(folder, f".{RECORD}.{os.getpid()}")
    _write(partial, text, os.O_TRUNC)
    os.replace(partial, os.path.join(folder, RECORD))


def _write(path: str, text: bytes, flag: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o666)
    try:
        while text:
            text = text[os.write(descriptor, text) :]
    finally:
        os.close(descriptor)


def linked_outputs(run: RunRecord) -> str:
    """Where members' outputs go if the driver has made links to there, as `taskensemble.smartsim` does."""
    return f"{run.path}/.smartsim/telemetry/{run.experiment}/{run.run_id}"


def keep_outputs(folder: str | Path, name: str, *, results: bool = False, run: RunRecord | None = None) -> None:
    """Moves what earlier attempts and runs have written to `<name>.out.<n>` and `.err.<n>`, the oldest with the lowest number.

    Parameters:
        results: moves `result.json` as well: a new run's members must not show what an earlier run has found.
        run: whose links to outputs that are to be written stay.
    """
    kept = [f"{name}.out", f"{name}.err", RESULT]
    # Whatever has the name: a program may have left a link, a folder or a pipe there, which nobody could write to.
    current = [
        file
        for file in (kept if results else kept[:2])
        if os.path.lexists(path := os.path.join(folder, file)) and not (run is not None and _awaits_output(path, run))
    ]
    if not current:
        return
    numbers = [
        int(number)
        for file, _, number in (path.rpartition(".") for path in os.listdir(folder))
        if file in kept and number.isdecimal()
    ]
    following = max(numbers, default=0) + 1
    for file in current:
        path = os.path.join(folder, file)
        os.rename(path, f"{path}.{following}")


def _awaits_output(path: str, run: RunRecord) -> bool:
    return os.path.islink(path) and os.readlink(path).startswith(linked_outputs(run) + "/") and not os.path.exists(path)


def clear(folder: Path, run: RunRecord, files: FilesRecord) -> None:
    """Delete a member's folder, unless something else lives in it.

    Raises:
        FileExistsError: it holds the experiment, the working or home folder, or a file that is to be put into it.
    """
    inside = os.path.realpath(folder)
    for path in (run.path, os.getcwd(), os.path.expanduser("~"), *files.copy_, *files.symlink, *files.configure):
        if f"{_real(path)}/".startswith(f"{inside}/"):
            raise FileExistsError(
                f"overwrite=True would delete {folder} with {path} in it; give the entity another path"
            )
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink()
    else:
        shutil.rmtree(folder)


@lru_cache(maxsize=256)
def _real(path: str) -> str:
    return os.path.realpath(path)


def _clear_stale(entity: EntityRecord, run: RunRecord) -> None:
    """Delete members' folders of an earlier, larger ensemble, which would pass for this one's."""
    if entity.kind == "Model" or not os.path.isdir(entity.path):
        return
    for folder in _generated_folders(Path(entity.path), entity.name):
        clear(folder, run, FilesRecord())


def _generated_folders(path: Path, name: str) -> Iterator[Path]:
    for child in list(path.iterdir()):
        stem, _, number = child.name.rpartition("_")
        if not child.is_dir():
            continue
        if stem == name and number.isdigit() and (child / RECORD).exists():
            yield child
        elif child.name.isdigit():
            yield from _generated_folders(child, name)


def _copy(files: FilesRecord, folder: Path) -> None:
    for source in files.copy_:
        if os.path.isdir(source):
            for parent, folders, names in walk(source):
                for name in (*folders, *names):
                    _replace(folder / os.path.relpath(os.path.join(parent, name), source))
            shutil.copytree(source, folder, dirs_exist_ok=True)
        else:
            _replace(folder / os.path.basename(source))
            shutil.copy(source, folder)


def _link(files: FilesRecord, folder: Path) -> None:
    for source in files.symlink:
        target = folder / os.path.basename(source)
        if target.is_symlink() and os.readlink(target) == source:
            continue
        if not os.path.exists(source):
            raise FileNotFoundError(f"to_symlink: {source} is not there")
        try:
            target.symlink_to(source)
        except FileExistsError:
            raise FileExistsError(
                f"to_symlink: {target} exists already; rename {source} or give overwrite=True"
            ) from None


def _configure(files: FilesRecord, folder: Path, params: dict[str, str]) -> list[str]:
    """Write the configured files. Returns their paths below the folder."""
    names = frozenset(params)
    written = []
    for source in files.configure:
        for path, below in _tagged_files(source):
            target = folder / below
            text = check_file(path, names, files.tag, files.allow_unknown_tags).fill(params)
            try:
                for part in reversed(Path(below).parents[:-1]):
                    _replace(folder / part)
                target.parent.mkdir(parents=True, exist_ok=True)
                _replace(target)
                with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                    stream.write(text)
                shutil.copymode(path, target)
            except OSError as error:
                raise ParameterWriterError(
                    f"to_configure: {target} cannot be written: {error.strerror or error}"
                ) from error
            written.append(below)
    return written


def _tagged_files(source: str) -> Iterator[tuple[str, str]]:
    """Each file to configure, and where it goes below the member's folder. A folder's contents go there as they lie."""
    if not os.path.isdir(source):
        yield source, os.path.basename(source)
        return
    for folder, folders, names in walk(source):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, source)


def _replace(target: Path) -> None:
    """Make way for a file or a folder: writing through a link, of an earlier run perhaps, would change the user's own, and nobody
    reads a pipe that an earlier program has left."""
    try:
        mode = target.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        target.unlink()


def _record_experiment(path: Path, run: RunRecord, members: list[MemberRecord]) -> None:
    """Write the experiment's record: of these members, and what it says of entities that are not generated now."""
    text = f"# Run: {run.run_id}\n"
    if path.exists():
        generated = {entity.name for entity in run.entities} | {member.name for member in members}
        earlier = path.read_text(encoding="utf-8", errors="surrogateescape").split(_SECTION)[1:]
        for section in earlier:
            name = section.partition("\n")[0]
            # A member of an ensemble that has fewer members now is gone as well.
            if name not in generated and name.rpartition("_")[0] not in generated:
                text += _SECTION + section
    text += "".join(f"{_SECTION}{member.name}\n{_lines(member.params)}" for member in members)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8", errors="surrogateescape")
    partial.replace(path)


def _lines(params: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in params.items())


def is_passed_on(folder: str | Path, member: MemberRecord, run: RunRecord) -> bool:
    """Whether what lies in a member's folder is another run's than `run`: an earlier one's, or that of one begun since."""
    name, other = _owner(folder)
    return name == member.name and other not in (AHEAD, run.run_id)


def _owner(folder: str | Path) -> tuple[str, str]:
    """The member that a folder's record names, and its run; empty without a record."""
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8", errors="surrogateescape") as stream:
            name, run = stream.readline(), stream.readline()
    except FileNotFoundError:
        return "", ""
    return name.removeprefix(_NAME).rstrip("\n"), run.removeprefix(_RUN).rstrip("\n")
