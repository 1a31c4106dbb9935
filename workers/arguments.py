"""The command line of a worker."""

from __future__ import annotations

import argparse
import os


def arguments(argv: list[str]) -> argparse.Namespace:
    """Reads it; ends the program with a message where it cannot be used."""
    parser = argparse.ArgumentParser(
        prog="taskensemble worker", description="Run members of ensembles on this machine."
    )
    _add_gives(parser)
    _add_names(parser)
    _add_limits(parser)
    _add_life(parser)
    _add_words(parser)
    options = parser.parse_args(argv)
    _check(parser, options)
    return options


def _add_gives(parser: argparse.ArgumentParser) -> None:
    """What it gives to members."""
    parser.add_argument(
        "--slots",
        type=int,
        default=None,
        help="members of one CPU at a time (default: as many as CPUs that this process may use)",
    )
    parser.add_argument("--gpus", default=None, help="GPUs to give to members, as in CUDA_VISIBLE_DEVICES: 0,1")
    parser.add_argument(
        "--memory",
        type=int,
        default=None,
        metavar="MiB",
        help="memory to give to members (default: what this process may use; 0: not counted)",
    )
    parser.add_argument(
        "--tags",
        "--tag",
        action="extend",
        type=lambda names: [name for name in names.split(",") if name],
        default=[],
        help="what members may ask for by name: a,b; may be repeated",
    )


def _add_names(parser: argparse.ArgumentParser) -> None:
    """What it is called, and whom it serves."""
    parser.add_argument("--queue", default="", help="serve this batch queue alone")
    parser.add_argument("--name", default=None, help="name of the worker, unique in the control plane")
    parser.add_argument(
        "--lease", type=float, default=180.0, help="seconds without a sign of life after which members run elsewhere"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    """What members may do."""
    parser.add_argument(
        "--allow-executables",
        action="append",
        default=[],
        metavar="PROGRAM",
        help="run this program, or those in this folder, and no others; may be repeated",
    )
    parser.add_argument(
        "--allow-roots",
        action="append",
        default=[],
        metavar="FOLDER",
        help="members' folders and files must be in this folder; may be repeated",
    )


def _add_life(parser: argparse.ArgumentParser) -> None:
    """When it ends."""
    parser.add_argument("--drain", type=float, default=20.0, help="seconds that members may go on after SIGTERM")
    parser.add_argument(
        "--idle-timeout", type=float, default=0.0, metavar="SECONDS", help="end after so long without work (0: never)"
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="end after so long, as on SIGTERM (0: no limit)",
    )


def _add_words(parser: argparse.ArgumentParser) -> None:
    """What it tells of itself."""
    parser.add_argument(
        "--log-level",
        default="WARNING",
        type=str.upper,
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
        help="from which level on it logs",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="json: an object a line, with run, member and attempt",
    )
    parser.add_argument(
        "--events",
        default=os.environ.get("TASKENSEMBLE_EVENTS") or "on",
        metavar="on|off",
        help="off: members are not told to Flower, which a very large run is too much for (default: TASKENSEMBLE_EVENTS or on)",
    )


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.events not in ("on", "off"):
        parser.error(f"--events {options.events} (or TASKENSEMBLE_EVENTS): give on or off")
    if options.slots is not None and options.slots < 1:
        parser.error(f"--slots {options.slots}: a worker needs at least one slot")
    if options.lease < 1:
        parser.error(f"--lease {options.lease:g}: give at least 1 second")
    for name in ("memory", "drain", "idle_timeout", "time_limit"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            parser.error(f"--{name.replace('_', '-')} {value:g}: give 0 or more")
