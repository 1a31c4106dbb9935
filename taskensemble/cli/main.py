"""`taskensemble`: the command line. Each group of commands is a file of this folder; this one joins them.

Exit codes: 0 done; 1 a run failed, or had failed members; 2 wrong usage; 3 no control plane, or it does not answer; 4 no such
run or member; 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from taskensemble import configuration
from taskensemble.cli import config, control, databases, doctor, drivers, live, monitor, reports, runs, scale, top
from taskensemble.cli.output import complain, exit_code
from taskensemble.errors import TaskensembleError

HELP_NAMES = ["-h", "--help"]
app = typer.Typer(
    name="taskensemble",
    help="Ensembles of simulations on a task queue, with AI models inside the database beside them.",
    no_args_is_help=True,
    epilog="Ends with 0: done; 1: a run failed, or has failed members; 2: wrong usage; 3: no control plane, or it does not "
    "answer; 4: no such run or member; 130: interrupted.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP_NAMES},
)
PANELS: dict[str, tuple[Any, ...]] = {
    "Begin": (drivers, doctor, config),
    "Runs": (runs, reports),
    "Watch": (top, live, monitor),
    "Servers and workers": (control, scale, databases),
}
"""Titles of `--help`, and the files whose commands stand under them."""
for title, modules in PANELS.items():
    for module in modules:
        module.register(app)
    listed: list[Any] = [*app.registered_commands, *app.registered_groups]
    for registered in listed:
        if not isinstance(registered.rich_help_panel, str):
            registered.rich_help_panel = title


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    """Ensembles of simulations on a task queue, with AI models inside the database beside them."""
    if show:
        from importlib.metadata import version as installed

        typer.echo(installed("taskensemble"))
        raise typer.Exit
    configuration.export(Path.cwd())


def main() -> None:
    """Entry point of the console script: errors that taskensemble raises on purpose are one sentence, not a traceback."""
    command = typer.main.get_command(app)
    _hide_type_of_flags(command)
    try:
        command(prog_name="taskensemble")
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
    except TaskensembleError as error:
        complain(str(error))
        sys.exit(exit_code(error))


def _hide_type_of_flags(command: Any) -> None:
    """Help should show `--json`, not `--json <bool>`, which reads as if a value were to follow."""
    # With the option for help, which click makes once for a command, by the names that it is asked for under first.
    names = command.context_settings.get("help_option_names", HELP_NAMES)
    for parameter in command.get_params(command.context_class(command, help_option_names=names)):
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    for each in getattr(command, "commands", {}).values():
        _hide_type_of_flags(each)


if __name__ == "__main__":
    main()
