"""`demo` and `run`: drivers."""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import traceback
from pathlib import Path

import typer

from taskensemble.cli.control import PASS_THROUGH
from taskensemble.cli.output import complain, exit_code
from taskensemble.errors import TaskensembleError

PACKAGE = Path(__file__).resolve().parent.parent

DRIVER_ARGUMENT = typer.Argument(help="The driver script, or a module with -m; what follows is passed to it.")
MODULE_OPTION = typer.Option(False, "--module", "-m", help="The driver is a module's name, as for `python -m`.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(context_settings={**PASS_THROUGH, "help_option_names": ["--help"]})(demo)
    app.command(context_settings={**PASS_THROUGH, "help_option_names": ["--help"], "allow_interspersed_args": False})(
        run
    )


def demo(context: typer.Context) -> None:
    """Run the demo: plates that an ensemble simulates and a model predicts."""
    sys.argv = ["taskensemble demo", *context.args]
    runpy.run_module("taskensemble.demo", run_name="__main__")


def run(
    context: typer.Context,
    driver: str = DRIVER_ARGUMENT,
    module: bool = MODULE_OPTION,
    smartsim: bool = typer.Option(False, "--smartsim", help="Let `import smartsim` mean taskensemble.smartsim."),
) -> None:
    """Run a driver script as `python driver.py` does, or with -m a module, such as pytest on tests of drivers.

    What a script does wrong is one sentence with the line of the driver, not a traceback through the package.
    """
    if not module and not Path(driver).is_file():
        raise typer.BadParameter(
            f"file {driver!r} does not exist; a module's name goes with -m.", param_hint="'driver'"
        )
    if smartsim:
        import taskensemble.smartsim

        taskensemble.smartsim.install()
    sys.argv = [driver, *context.args]
    if module:
        sys.path.insert(0, os.getcwd())
        if not _is_module(driver):
            raise typer.BadParameter(f"there is no module {driver!r} here nor installed.", param_hint="'driver'")
        runpy.run_module(driver, run_name="__main__", alter_sys=True)
        return
    sys.path.insert(0, str(Path(driver).resolve().parent))
    try:
        runpy.run_path(driver, run_name="__main__")
    except (TaskensembleError, FileNotFoundError, FileExistsError) as error:
        calls = traceback.extract_tb(error.__traceback__)
        lines = [call.lineno for call in calls if call.filename == driver]
        if not lines or not calls[-1].filename.startswith(str(PACKAGE)):
            raise
        complain(f"{driver}, line {lines[-1]}: {error}")
        raise typer.Exit(exit_code(error)) from None


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
