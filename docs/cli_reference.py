"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

from typing import Any

import typer.main

from taskensemble.cli.main import app

HEAD = """# Command line

Made from the commands' own help. Options are written before or after arguments.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a run failed, or has failed members |
| 2 | wrong usage |
| 3 | no control plane, or it does not answer |
| 4 | no such run, member or database |
| 130 | interrupted |
"""


def page() -> str:
    """The page in Markdown: a section for each command."""
    return "\n".join([HEAD, *_sections(typer.main.get_command(app), "taskensemble")])


def _sections(command: Any, path: str) -> list[str]:
    subcommands = getattr(command, "commands", None)
    if subcommands is not None:
        return [line for name in subcommands for line in _sections(subcommands[name], f"{path} {name}")]
    usage = " ".join(
        [
            "[OPTIONS]",
            *(_argument(parameter) for parameter in command.params if parameter.param_type_name == "argument"),
        ]
    )
    lines = [f"## {path}", "", (command.help or "").strip(), "", "```", f"{path} {usage}", "```", ""]
    rows = [_row(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
    return lines + (["| parameter | meaning | default |", "|---|---|---|", *rows, ""] if rows else [])


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().strip("[]")
    return name if parameter.required else f"[{name}]"


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{_argument(parameter)}`"
    default = parameter.default
    shown = "" if default is None or callable(default) or default is False or default == () else f"`{default}`"
    meaning = (getattr(parameter, "help", None) or "").replace("|", "\\|").replace("\n", " ")
    return f"| {names} | {meaning} | {shown} |"
