"""`config`: settings, where they come from, and the files that hold them; `completion`: the shell's help with commands."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path

import typer

from taskensemble import configuration
from taskensemble.cli.output import JSON_OPTION, print_json, table
from taskensemble.cli.plane import living
from taskensemble.engine import signing
from taskensemble.engine.urls import without_password
from taskensemble.errors import InputError
from taskensemble.launch import control as planes

app = typer.Typer(help="Show and change settings.", invoke_without_command=True)

NAME_ARGUMENT = typer.Argument(help=f"One of {', '.join(configuration.SETTINGS)}.")
FOLDER_OPTION = typer.Option(Path(), "--path", "-p", help="The folder whose drivers are meant.", file_okay=False)
HERE_OPTION = typer.Option(False, "--here", help="Of this folder and those below it, instead of the user.")


class Shell(StrEnum):
    """Shells that completion is known for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


SHELL_ARGUMENT = typer.Argument(None, help="The shell; default: the one in SHELL.")


def register(main: typer.Typer) -> None:
    """Add the commands of this file to `main`."""
    main.add_typer(app, name="config")
    main.command()(completion)


@app.callback()
def config(context: typer.Context, path: Path = FOLDER_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Show and change settings. Without a command: `show`."""
    if context.invoked_subcommand is None:
        show(path, as_json)


@app.command()
def show(path: Path = FOLDER_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Print each setting, where it comes from, and the control plane that commands in the folder use; secrets are hidden."""
    folder = path.resolve()
    found = {name: configuration.find(name, folder) for name in configuration.SETTINGS}
    plane, experiment = _plane(folder)
    if as_json:
        settings = {
            name: {
                "value": _shown(name, value.value) or None,
                "source": value.source or None,
                "variable": configuration.SETTINGS[name].variable,
            }
            for name, value in found.items()
        }
        print_json({"settings": settings, "files": _paths(folder), "control_plane": plane})
        return
    table(
        ("Setting", "Value", "From", "Meaning"),
        (
            (name, _shown(name, value.value) or "(unset)", value.source, configuration.SETTINGS[name].meaning)
            for name, value in found.items()
        ),
    )
    typer.echo(f"\nControl plane: {plane}{f', of the experiment in {experiment}' if experiment else ''}")


@app.command()
def get(name: str = NAME_ARGUMENT, path: Path = FOLDER_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Print a setting as it is, secrets too. Ends with 1 when it is unset."""
    configuration.check(name)
    value, source = configuration.find(name, path)
    if as_json:
        print_json({"name": name, "value": value or None, "source": source or None})
    elif value:
        typer.echo(value)
    if not value:
        raise typer.Exit(1)


@app.command("set")
def set_(
    name: str = NAME_ARGUMENT,
    value: str = typer.Argument(help="The value; `-` reads it from standard input, where other users do not see it."),
    path: Path = FOLDER_OPTION,
    here: bool = HERE_OPTION,
) -> None:
    """Write a setting into the user's file, or into the folder's with --here. Only its user may read the file."""
    configuration.check(name)
    given = sys.stdin.readline().strip() if value == "-" else value
    if not given:
        raise InputError(f"The value of {name} is empty: `taskensemble config unset {name}` takes it out.")
    if name == "broker_url":
        planes.given(given, store=configuration.find("store_url", path).value or "redis://unknown")
    elif name == "store_url":
        planes.given("redis://unknown", store=given)
    else:
        _check(name, given)
    file = _file(path, here)
    configuration.write(file, name, given)
    typer.echo(f"{file}: {name} = {_shown(name, given)}")
    if os.environ.get(configuration.SETTINGS[name].variable):
        typer.echo(f"{configuration.SETTINGS[name].variable} is set in this environment and comes before it.", err=True)


@app.command()
def unset(name: str = NAME_ARGUMENT, path: Path = FOLDER_OPTION, here: bool = HERE_OPTION) -> None:
    """Take a setting out of the user's file, or of the folder's with --here."""
    configuration.write(_file(path, here), name, None)


@app.command("path")
def path_(path: Path = FOLDER_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Print the settings files, the one that wins first, and whether they are there."""
    paths = _paths(path.resolve())
    if as_json:
        print_json(paths)
        return
    table(("File", "Of", "There"), ((each["path"], each["of"], "yes" if each["exists"] else "no") for each in paths))


def completion(
    shell: Shell | None = SHELL_ARGUMENT,
    as_json: bool = JSON_OPTION,
) -> None:
    """Print what makes a shell complete commands and options.

    For instance: `eval "$(taskensemble completion bash)"`.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    name = shell.value if shell else Path(os.environ.get("SHELL", "bash")).name
    if name not in list(Shell):
        raise InputError(f"SHELL={name!r} has no completion here: use one of {', '.join(Shell)}.")
    script = get_completion_script(prog_name="taskensemble", complete_var="_TASKENSEMBLE_COMPLETE", shell=name)
    if as_json:
        print_json({"shell": name, "script": script})
    else:
        typer.echo(script)


def _check(name: str, value: str) -> None:
    """Checks what this machine can tell of a setting; folders and programs of workers may be on others.

    Raises:
        InputError: it could not be used.
    """
    if name == "events" and value not in ("on", "off"):
        raise InputError(f"events={value!r}: give on or off")
    if name == "db_server" and shutil.which(value) is None:
        raise InputError(f"db_server={value!r} is no program: give the path of a redis-server or valkey-server")
    if name == "signing_key_file":
        signing.read_file(value, "signing_key_file")


def _plane(folder: Path) -> tuple[str, str]:
    """Address of the control plane that commands in `folder` use, or why there is none; and the folder below, if it is of one."""
    try:
        control = living(folder)
    except InputError as error:
        # Whoever looks for a wrong setting has to see the others, and where each comes from.
        return str(error), ""
    if control is None:
        return "embedded, started by each driver", ""
    below = control.folder.name if control.folder.parent == folder else ""
    return without_password(control.broker_url), below


def _file(path: Path, here: bool) -> Path:
    return configuration.folder_file(path) if here else configuration.user_file()


def _paths(folder: Path) -> list[dict[str, object]]:
    counting = list(configuration.files(folder))
    listed = dict.fromkeys([*counting, configuration.folder_file(folder), configuration.user_file()])
    return [
        {
            "path": str(path),
            "of": "user" if path == configuration.user_file() else "folder",
            "exists": path in counting,
        }
        for path in listed
    ]


def _shown(name: str, value: str) -> str:
    """A setting without what must stay secret."""
    if not value:
        return ""
    return "***" if configuration.SETTINGS[name].secret else without_password(value)
